"""The text of `config show`, `config check` and `config schema`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sensorsync.console.escape import printable


def show(data: Mapping[str, Any], console: Console) -> None:
    """Print every setting with its value and origin. Lists of sections are below the table, with the whole width."""
    console.print(Text(f"Configuration file: {printable(data['file'] or 'none')}"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Setting", no_wrap=True)
    table.add_column("Value", overflow="fold")
    table.add_column("From", overflow="fold")
    for name, entry in data["settings"].items():
        style = "" if entry["origin"] == "default" else "bold"
        shown = "(below)" if _has_sections(entry["value"]) else printable(_format_value(entry["value"]))
        table.add_row(name, Text(shown), Text(printable(entry["origin"])), style=style)
    console.print(table)
    for name, entry in data["settings"].items():
        if _has_sections(entry["value"]):
            text = yaml.safe_dump(
                entry["value"], default_flow_style=None, sort_keys=False, allow_unicode=True, width=10_000
            )
            lines = [f"{name}:", *text.rstrip("\n").split("\n")]
            console.print(Text("\n".join(map(printable, lines))), soft_wrap=True)


def check(data: Mapping[str, Any], console: Console) -> None:
    """Print the warnings and the verdict."""
    for warning in data["warnings"]:
        console.print(Text(f"Warning: {printable(warning)}"))
    if data["valid"]:
        console.print(Text(f"The configuration is valid (file: {printable(data['file'] or 'none')})."))


def schema(data: Mapping[str, Any], _console: Console) -> None:
    """Print the schema alone, so that it can be redirected into a file."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def _has_sections(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _format_value(value: Any) -> str:
    """Return a value as a person would write it."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(value) or "-"
    return value if isinstance(value, str) else json.dumps(value)
