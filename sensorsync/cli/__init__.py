"""The command line. It connects the parts and does nothing else; it is the only package that imports typer."""

from __future__ import annotations

from sensorsync.cli.entry import main

__all__ = ["main"]
