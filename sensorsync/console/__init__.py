"""All output for people and machines: results on stdout, logs and errors on stderr."""

from __future__ import annotations

from sensorsync.console.results import render_result

__all__ = ["render_result"]
