"""The error classes, one for each family of causes, with its exit code.

The docstring of a class is the message of an error without its own message. The exit code is an attribute of the class
(`docs/reference/exit-codes.md` is generated from here), and `hint` is the advice for people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from inspect import cleandoc
from typing import ClassVar


class ExitCode(IntEnum):
    """The exit code of a sensorsync process. The numbers are part of the interface and never change."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    BROKER = 3
    DATABASE = 4
    INCOMPLETE = 5
    ALREADY_RUNNING = 6


class SensorsyncError(Exception):
    """Something failed that sensorsync did not foresee."""

    exit_code: ClassVar[ExitCode] = ExitCode.UNEXPECTED
    code: ClassVar[str] = "unexpected"

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        super().__init__(message or cleandoc(type(self).__doc__ or "").splitlines()[0])
        self.hint = hint


class ConfigurationError(SensorsyncError):
    """The configuration or the command line is wrong."""

    exit_code = ExitCode.USAGE
    code = "configuration"

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        excerpt: str | None = None,
        errors: Sequence[ConfigurationError] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.excerpt = excerpt
        """The wrong text as it was written, and a second line with a caret below the error. For people only."""
        self.errors = tuple(errors)
        """The errors that this one combines, when several settings are wrong at once."""


class UsageError(ConfigurationError):
    """The command line is not understood."""

    code = "usage"


class BrokerError(SensorsyncError):
    """The broker could not be reached, or it refused."""

    exit_code = ExitCode.BROKER
    code = "broker"


class DatabaseError(SensorsyncError):
    """The database could not be reached, or it refused."""

    exit_code = ExitCode.DATABASE
    code = "database"


class DeadLetterBoxError(SensorsyncError):
    """The dead-letter box could not be opened."""

    exit_code = ExitCode.DATABASE
    code = "dead_letter_box"


class IncompleteError(SensorsyncError):
    """The work ended incomplete: something is unacknowledged, missing or failed."""

    exit_code = ExitCode.INCOMPLETE
    code = "incomplete"


class InterruptedByUser(IncompleteError):
    """Interrupted before the end."""

    code = "interrupted"


class AlreadyRunningError(SensorsyncError):
    """Another process holds this lock or this MQTT session."""

    exit_code = ExitCode.ALREADY_RUNNING
    code = "already_running"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem, with a stable code for programs, and a message and a hint for people."""

    code: str
    message: str
    hint: str | None = None
    excerpt: str | None = None
    """Lines that show the place of the error, on a terminal."""

    @classmethod
    def from_error(cls, error: SensorsyncError) -> Problem:
        """Return the problem that an error describes."""
        excerpt = error.excerpt if isinstance(error, ConfigurationError) else None
        return cls(error.code, str(error), error.hint, excerpt)

    @classmethod
    def all_from_error(cls, error: SensorsyncError) -> tuple[Problem, ...]:
        """Return the problems that an error describes, or those of its `errors` when it combines several."""
        parts = error.errors if isinstance(error, ConfigurationError) else ()
        return tuple(cls.from_error(part) for part in parts or (error,))
