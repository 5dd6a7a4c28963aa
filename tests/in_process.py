"""The command line in the test's own process: quick, and its output can be read."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from sensorsync.cli import main


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def envelope(self) -> dict[str, Any]:
        """What `--json` printed."""
        document: dict[str, Any] = json.loads(self.out)
        return document

    @property
    def data(self) -> dict[str, Any]:
        """Its `data`."""
        found: dict[str, Any] = self.envelope["data"]
        return found


def run_here(capsys: pytest.CaptureFixture[str], *words: str) -> Ended:
    """`sensorsync WORDS`."""
    code = main(words)
    return Ended(code, *capsys.readouterr())
