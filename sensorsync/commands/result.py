"""The result of a command: one frozen object from which both the human text and the JSON envelope are rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sensorsync.errors import ExitCode, Problem

ENVELOPE_VERSION = 1
"""Value of the envelope's `sensorsync` key.

It changes only when a reader of the old envelope would misread the new one.
"""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of one command.

    `data` is the command's own part of the envelope (JSON types only). `exit_code` decides `ok`.
    """

    command: str
    data: Mapping[str, Any] = field(default_factory=dict)
    exit_code: ExitCode = ExitCode.OK
    problems: tuple[Problem, ...] = ()

    def envelope(self) -> dict[str, Any]:
        """Return the versioned JSON document that `--json` prints."""
        return {
            "sensorsync": ENVELOPE_VERSION,
            "command": self.command,
            "ok": self.exit_code == ExitCode.OK,
            "exit_code": int(self.exit_code),
            "data": dict(self.data),
            "errors": [{"code": p.code, "message": p.message, "hint": p.hint} for p in self.problems],
        }
