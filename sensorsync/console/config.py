"""What `config show`, `config check` and `config schema` print."""

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
    """Every setting with its value and origin."""
    console.print(Text(f"Configuration file: {printable(data['file'] or 'none')}"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Setting", no_wrap=True)
    table.add_column("Value", overflow="fold")
    table.add_column("From", overflow="fold")
    for name, entry in data["settings"].items():
        style = "" if entry["origin"] == "default" else "bold"
        table.add_row(
            name, Text("\n".join(map(printable, _lines(entry["value"])))), Text(printable(entry["origin"])), style=style
        )
    console.print(table)


def check(data: Mapping[str, Any], console: Console) -> None:
    """The verdict and its warnings."""
    for warning in data["warnings"]:
        console.print(Text(f"Warning: {printable(warning)}"))
    if data["valid"]:
        console.print(Text(f"The configuration is valid (file: {printable(data['file'] or 'none')})."))


def schema(data: Mapping[str, Any], _console: Console) -> None:
    """The schema alone, to be redirected into a file."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def _lines(value: Any) -> list[str]:
    """A value as one would write it; lists of sections as YAML."""
    if value is None:
        return ["-"]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [", ".join(value) or "-"]
    if isinstance(value, list):
        text = yaml.safe_dump(value, default_flow_style=None, sort_keys=False, allow_unicode=True, width=10_000)
        return text.rstrip("\n").split("\n")
    return [value if isinstance(value, str) else json.dumps(value)]
