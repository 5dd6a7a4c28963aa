"""What `init-db` prints."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from sensorsync.console.escape import printable


def render(data: Mapping[str, Any], console: Console) -> None:
    """What was done or is to be done; the SQL alone, when that was asked for."""
    if "sql" in data:
        sys.stdout.write(data["sql"])
        return
    console.print(Text(printable(data["database"]), style="bold"))
    for line in _lines(data):
        console.print(Text(f"  {printable(line)}"))


def _lines(data: Mapping[str, Any]) -> list[str]:
    if "exists" in data:
        lines = ["The database exists." if data["exists"] else "The database does not exist."]
        lines += [f"applied   {name}" for name in data["applied"]]
        lines += [f"pending   {name}" for name in data["pending"]]
        if data["ready"]:
            lines.append("The schema is up to date.")
    else:
        lines = ["Database created."] if data["created"] else []
        lines += [f"applied   {name}" for name in data["applied"]]
        if not lines:
            lines = ["Nothing to do: the schema is up to date."]
    lines += [f"differs   {difference}" for difference in data["differences"]]
    lines += [f"Warning: {warning}." for warning in data["warnings"]]
    return lines
