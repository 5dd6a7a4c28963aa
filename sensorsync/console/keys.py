"""The text of `keys generate`, `keys list` and `keys show-public`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sensorsync.console.escape import printable


def generate(data: Mapping[str, Any], console: Console) -> None:
    """Print the files, and the entries for the configurations."""
    lines = [f"Key {data['id']} for {data['algorithm']}, fingerprint {data['fingerprint']}"]
    makes, opens = ("signs", "verifies") if "sign" in data["use"] else ("encrypts", "decrypts")
    if data["public_key_file"] is None:
        lines += [
            f"  {data['secret_file']}: the key, for those who {_plural(makes)} and those who {_plural(opens)}",
            f"Who {makes} and who {opens} has in security.keys:",
            f"  - {json.dumps(data['settings']['makes'])}",
        ]
    else:
        lines += [
            f"  {data['secret_file']}: the private key, only for who {makes}",
            f"  {data['public_key_file']}: the public key, for those who {_plural(opens)}",
            f"Who {makes} has in security.keys:",
            f"  - {json.dumps(data['settings']['makes'])}",
            f"Who {opens} has in security.keys:",
            f"  - {json.dumps(data['settings']['opens'])}",
        ]
    for line in lines:
        console.print(Text(printable(line)))


def show(data: Mapping[str, Any], console: Console) -> None:
    """Print one line for each key."""
    console.print(Text(f"Signatures: {data['signatures']}. Encryption: {data['encryption']}."))
    if not data["keys"]:
        console.print(Text("No keys are configured: see `sensorsync keys generate` and security.keys."))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("Id", "Algorithm", "Use", "From", "Fingerprint", ""):
        table.add_column(name, overflow="fold")
    for key in data["keys"]:
        notes = ["we use it for new messages"] if key["makes"] else []
        notes += ["weak"] if key["weakness"] else []
        cells = (
            key["id"],
            key["algorithm"],
            ", ".join(key["use"]),
            key["from"],
            key["fingerprint"] or "-",
            "; ".join(notes),
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table)


def show_public(data: Mapping[str, Any], _console: Console) -> None:
    """Print the key alone, so that it can be redirected into a file."""
    sys.stdout.write(data["public_key"])


def _plural(word: str) -> str:
    return "verify" if word == "verifies" else word.removesuffix("s")
