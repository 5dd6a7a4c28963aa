"""The text of the `dlq` commands. All text from outside is escaped for the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sensorsync.console.escape import printable
from sensorsync.console.table import format_value

_MAX_BAR_LENGTH: Final = 24
"""Length of the histogram's longest bar, in characters."""
_WIDE_SCREEN: Final = 120
"""Width of the screen, in columns, from which on all columns of a letter fit."""
_WIDE_COLUMNS: Final = ("Id", "Last seen", "Seen", "Tries", "Reason", "Topic", "Bytes", "Why", "Payload")
_NARROW_COLUMNS: Final = ("Id", "Last seen", "Reason", "Topic", "Why")
"""Columns on a narrow screen. The rest is in `dlq show`."""
_LETTER_FIELDS: Final = (
    "state", "device", "topic", "qos", "first_seen", "last_seen", "seen", "attempts", "next_retry_at", "size", "sha256",
)  # fmt: skip


def inspect(data: Mapping[str, Any], console: Console) -> None:
    """Print the counts by reason, then the latest letters."""
    if not data["total"]:
        note = "" if data["exists"] else " (there is no such file yet)"
        console.print(Text(f"No dead letters in {printable(data['path'])}{note}."))
        return
    console.print(
        Text(
            f"{data['total']:,} dead letters in {printable(data['path'])}: {data['due']:,} are due for a replay,"
            f" {data['quarantined']:,} are quarantined"
        )
    )
    console.print(_histogram(data))
    if data["letters"]:
        console.print(Text(f"The latest {len(data['letters'])}:"))
        console.print(_letter_table(data, console.width))


def show(data: Mapping[str, Any], console: Console) -> None:
    """Print one whole letter."""
    console.print(Text(f"Letter {data['id']}", style="bold"))
    headers = Table(box=None, show_header=False, pad_edge=False)
    headers.add_column(no_wrap=True)
    headers.add_column(overflow="fold")
    for name in _LETTER_FIELDS:
        headers.add_row(name.replace("_", " "), Text(printable(format_value(data[name]))))
    for name, value in (data["properties"] or {}).items():
        shown = value if isinstance(value, str) else json.dumps(value)
        headers.add_row(Text(f"property {printable(name)}"), Text(printable(shown)))
    console.print(headers)
    console.print(Text("Refused:"))
    for refusal in data["history"]:
        when = "parked" if not refusal["attempt"] else f"replay {refusal['attempt']}"
        reason = _format_reason(refusal)
        console.print(
            Text(f"  {refusal['at']}  {when}  {printable(reason)}: {_format_message(refusal['message'])}"),
            soft_wrap=True,
        )
    console.print(Text("Payload:"))
    console.print(Text(printable(data["payload"])), soft_wrap=True)


def replay(data: Mapping[str, Any], console: Console) -> None:
    """Print the outcome of the letters that were due."""
    if not data["due"]:
        console.print(Text("No letter is due."))
        return
    words = ("can be decoded", "would be refused") if data["dry_run"] else ("stored", "refused again")
    line = f"{data['due']:,} letters due: {data['stored']:,} {words[0]}, {data['refused']:,} {words[1]}"
    if data["quarantined"]:
        line += f" ({data['quarantined']:,} of them quarantined)"
    if data["left"]:
        line += f", {data['left']:,} left as they were"
    console.print(Text(f"{line}, in {data['seconds']:.1f} s"))


def _histogram(data: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("Reason", "State", "Letters", "", "Newest"):
        table.add_column(name, justify="right" if name == "Letters" else "left", no_wrap=name == "Newest")
    most = max(count["letters"] for count in data["counts"])
    for count in data["counts"]:
        bar = "#" * max(1, round(_MAX_BAR_LENGTH * count["letters"] / most))
        table.add_row(
            Text(printable(_format_reason(count))), count["state"], f"{count['letters']:,}", bar, count["newest"]
        )
    return table


def _letter_table(data: Mapping[str, Any], width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    # Numbers and times are never cut, least of all the id, which `dlq show` takes. Texts share the remaining width, one
    # line each.
    names = _WIDE_COLUMNS if width >= _WIDE_SCREEN else _NARROW_COLUMNS
    for name in names:
        number = name in {"Id", "Seen", "Tries", "Bytes"}
        table.add_column(name, justify="right" if number else "left", no_wrap=number or name in {"Last seen", "Reason"})
    for letter in data["letters"]:
        tries = f"{letter['attempts']}{'!' if letter['state'] == 'quarantined' else ''}"
        cells: dict[str, str | Text] = {
            "Id": str(letter["id"]),
            "Last seen": letter["last_seen"],
            "Seen": str(letter["seen"]),
            "Tries": tries,
            "Reason": _one_line(_format_reason(letter)),
            "Topic": _one_line(letter["topic"]),
            "Bytes": f"{letter['size']:,}",
            "Why": _one_line(letter["message"]),
            "Payload": _one_line(letter["payload"]),
        }
        table.add_row(*(cells[name] for name in names))
    return table


def _format_message(message: str) -> str:
    """Return the message; when the payload gives several rows, each cause is on a line of its own."""
    shown = printable(message)
    if not shown.startswith("rejected "):
        return shown
    return shown.replace(": [", ":\n    [", 1).replace("; [", "\n    [")


def _one_line(text: str) -> Text:
    return Text(printable(text), no_wrap=True, overflow="ellipsis")


def _format_reason(data: Mapping[str, Any]) -> str:
    reason: str = data["reason"]
    return reason if data["errno"] is None else f"{reason} {data['errno']}"
