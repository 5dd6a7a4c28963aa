"""The default renderer: a result's data as a table of keys and values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sensorsync.console.escape import printable


def render(data: Mapping[str, Any], console: Console) -> None:
    """Print one row for each value. Values in nested objects have dotted names."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _flatten(data, ""):
        table.add_row(Text(printable(name)), Text(printable(format_value(value))))
    console.print(table)


def format_value(value: Any) -> str:
    """Return a JSON value for people: numbers have separators, and a dash stands for null."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _flatten(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
