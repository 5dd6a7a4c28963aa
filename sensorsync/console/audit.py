"""What `audit` prints, and the part of it that `stress-publish --verify` shows too."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sensorsync.console.escape import printable
from sensorsync.console.table import as_text

_CLIENTS = 20
_RANGES = 12


def render(data: Mapping[str, Any], console: Console) -> None:
    """The counts, the missing sequence numbers by client, and a verdict."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name in ("messages", "stored", "missing", "parked", "corrupt", "duplicates", "redelivered", "deleted"):
        if data.get(name) is not None:
            table.add_row(name, as_text(data[name]))
    console.print(table)
    for line in missing_lines(data):
        console.print(Text(line))
    for example in data["corrupt_examples"]:
        console.print(Text(printable(f"corrupt: {example}")))
    good = data["missing"] == 0 and not data["corrupt"]
    verdict = f"Every message of run {data['run']} is accounted for." if good else f"Run {data['run']} is incomplete."
    console.print(Text(printable(verdict), style="green" if good else "red"))


def missing_lines(data: Mapping[str, Any]) -> list[str]:
    """A line per client that misses something: `client 3 misses 1,000: seq 500-1499`."""
    lines = []
    by_client = [(client, list(found)) for client, found in groupby(data["missing_ranges"], lambda one: one["client"])]
    for client, found in by_client[:_CLIENTS]:
        count = sum(one["last"] - one["first"] + 1 for one in found)
        ranges = ", ".join(_range(one) for one in found[:_RANGES]) + (", ..." if len(found) > _RANGES else "")
        lines.append(f"client {client} misses {count:,}: seq {ranges}")
    if len(by_client) > _CLIENTS:
        lines.append(f"... and {len(by_client) - _CLIENTS} more clients (--json has them)")
    return lines


def _range(one: Mapping[str, int]) -> str:
    return str(one["first"]) if one["first"] == one["last"] else f"{one['first']}-{one['last']}"
