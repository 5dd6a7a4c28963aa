"""The text of `audit`, and the part of it that `stress-publish --verify` shows too."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sensorsync.console.escape import printable
from sensorsync.console.table import format_value

_MAX_CLIENTS = 20
_MAX_RANGES = 12


def render(data: Mapping[str, Any], console: Console) -> None:
    """Print the counts, the missing sequence numbers by client, and a verdict."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name in ("messages", "stored", "missing", "parked", "corrupt", "duplicates", "redelivered", "deleted"):
        if data.get(name) is not None:
            table.add_row(name, format_value(data[name]))
    console.print(table)
    for line in missing_lines(data):
        console.print(Text(line))
    for example in data["corrupt_examples"]:
        console.print(Text(printable(f"corrupt: {example}")))
    good = data["missing"] == 0 and not data["corrupt"]
    verdict = f"Every message of run {data['run']} is accounted for." if good else f"Run {data['run']} is incomplete."
    console.print(Text(printable(verdict), style="green" if good else "red"))


def missing_lines(data: Mapping[str, Any]) -> list[str]:
    """Return a line for each client with missing messages, such as `client 3 misses 1,000: seq 500-1499`."""
    lines = []
    by_client = [(client, list(found)) for client, found in groupby(data["missing_ranges"], lambda one: one["client"])]
    for client, found in by_client[:_MAX_CLIENTS]:
        count = sum(one["last"] - one["first"] + 1 for one in found)
        ranges = ", ".join(_format_range(one) for one in found[:_MAX_RANGES]) + (
            ", ..." if len(found) > _MAX_RANGES else ""
        )
        lines.append(f"client {client} misses {count:,}: seq {ranges}")
    if len(by_client) > _MAX_CLIENTS:
        lines.append(f"... and {len(by_client) - _MAX_CLIENTS} more clients (--json has them)")
    return lines


def _format_range(missing: Mapping[str, int]) -> str:
    return str(missing["first"]) if missing["first"] == missing["last"] else f"{missing['first']}-{missing['last']}"
