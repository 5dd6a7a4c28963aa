"""The families of failure, each with its exit code.

An error's docstring is its message when none is given. A class stands for a family of causes; its exit code is on the branch
(`docs/reference/exit-codes.md` is generated from here), and `hint` says what a person can do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from inspect import cleandoc
from typing import ClassVar


class ExitCode(IntEnum):
    """What a process of sensorsync says when it ends. Numbers are part of the interface and never change."""

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
        """What is wrong as it stands there, and on a second line a caret below the place. For people alone."""
        self.errors = tuple(errors)
        """The errors that this one sums up, when several settings are wrong at once."""


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
    """One thing that went wrong: a stable code for machines, a message and a hint for people."""

    code: str
    message: str
    hint: str | None = None
    excerpt: str | None = None
    """Lines that show where, on a terminal."""

    @classmethod
    def from_error(cls, error: SensorsyncError) -> Problem:
        """The problem that an error tells of."""
        excerpt = error.excerpt if isinstance(error, ConfigurationError) else None
        return cls(error.code, str(error), error.hint, excerpt)

    @classmethod
    def all_from_error(cls, error: SensorsyncError) -> tuple[Problem, ...]:
        """The problems that an error tells of: its parts when it sums up several."""
        parts = error.errors if isinstance(error, ConfigurationError) else ()
        return tuple(cls.from_error(part) for part in parts or (error,))
