"""What `dlq inspect` prints. All that came from outside is made harmless for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sensorsync.console.escape import printable


def inspect(data: Mapping[str, Any], console: Console) -> None:
    """Counts by reason, then the latest letters."""
    if not data["total"]:
        note = "" if data["exists"] else " (there is no such file yet)"
        console.print(Text(f"No dead letters in {printable(data['path'])}{note}."))
        return
    console.print(Text(f"{data['total']:,} dead letters in {printable(data['path'])}"))
    console.print(_counts(data))
    if data["letters"]:
        console.print(Text(f"The latest {len(data['letters'])}:"))
        console.print(_letters(data))


def _counts(data: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Reason")
    table.add_column("State")
    table.add_column("Letters", justify="right")
    for count in data["counts"]:
        table.add_row(Text(printable(count["reason"])), count["state"], f"{count['letters']:,}")
    return table


def _letters(data: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("Id", "Last seen", "Seen", "Reason", "Topic", "Bytes", "Why", "Payload"):
        right = name in {"Id", "Seen", "Bytes"}
        table.add_column(name, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    for letter in data["letters"]:
        reason = letter["reason"] if letter["errno"] is None else f"{letter['reason']} {letter['errno']}"
        table.add_row(
            str(letter["id"]),
            letter["last_seen"],
            str(letter["seen"]),
            Text(printable(reason)),
            Text(printable(letter["topic"])),
            f"{letter['size']:,}",
            Text(printable(letter["message"])),
            Text(printable(letter["payload"])),
        )
    return table
