"""The command line: wiring, and nothing else; the only package that knows typer."""

from __future__ import annotations

from sensorsync.cli.entry import main

__all__ = ["main"]
