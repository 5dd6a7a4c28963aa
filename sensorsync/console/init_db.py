"""The text of `init-db`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from sensorsync.console.escape import printable


def render(data: Mapping[str, Any], console: Console) -> None:
    """Print the changes that were made or are to be made, or the requested SQL alone."""
    if "sql" in data:
        sys.stdout.write(data["sql"])
        return
    if "accounts" in data:
        sys.stdout.write(_grant_script(data))
        return
    console.print(Text(printable(data["database"]), style="bold"))
    for line in _lines(data):
        console.print(Text(f"  {printable(line)}"))


_GRANTS_HEAD = """\
-- The accounts of sensorsync on {server}, each with what its commands need and no more. For an administrator: replace each
-- <password ...> by one in quotes first. Make the owner, run `sensorsync init-db` as the owner, then make the others.
-- You need no owner if you run `init-db` yourself, and no account of whose commands you run none.
"""


def _grant_script(data: Mapping[str, Any]) -> str:
    """Return a script for the mysql client."""
    parts = [_GRANTS_HEAD.format(server="MariaDB" if data["flavor"] == "mariadb" else "MySQL")]
    for account in data["accounts"]:
        parts.append(f"\n-- {account['role']}: {', '.join(account['commands'])}\n")
        parts += [f"{statement};\n" for statement in account["statements"]]
    return "".join(parts)


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
        if not lines and data["ready"]:
            lines = ["The schema is up to date." if data["upkeep"] else "Nothing to do: the schema is up to date."]
    lines += [f"differs   {difference}" for difference in data["differences"]]
    if data["upkeep"]:
        lines += _maintenance_lines(data["upkeep"], done="exists" not in data)
    lines += [f"Warning: {warning}." for warning in data["warnings"]]
    return lines


def _maintenance_lines(report: Mapping[str, Any], *, done: bool) -> list[str]:
    lines = []
    if added := report["added"]:
        lines.append(f"{'added  ' if done else 'to add '}   {_format_name_range(added)}")
    if dropped := report["dropped"]:
        names, rows = _format_name_range([gone["name"] for gone in dropped]), sum(gone["rows"] for gone in dropped)
        what = f"readings from before {dropped[-1]['before']}, about {rows:,}"
        lines.append(f"{'dropped' if done else 'to drop'}   {names}: {what}")
    if deleted := report["deleted"]:
        lines.append(
            f"{'deleted  ' if done else 'to delete'} {deleted:,} readings from before {report['retained_since']}"
        )
    if not lines:
        lines = ["Nothing to keep in order."]
    if until := report["covered_until"]:
        lines.append(f"{report['partitions']} partitions, by day until {until}.")
    if beyond := report["rows_beyond"]:
        lines.append(f"Readings later than that: {beyond:,}, of clocks that are ahead. --retain never removes them.")
    return lines


def _format_name_range(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]} ({len(names)} partitions)"
