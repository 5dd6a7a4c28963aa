"""The actions that an error of the database can demand, and the rules that tables of error numbers are made of."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class ErrorAction(StrEnum):
    """The action on a batch after an error."""

    RETRY = "retry"
    """The transaction lost a race. Roll back and run it again at once."""
    OUTAGE = "outage"
    """The server cannot store the batch now. Keep the batch, wait, and reconnect."""
    REJECT = "reject"
    """A row is rejected because of its content. Bisect the batch down to that row and park it."""
    CONFIG = "config"
    """No row can be stored until a person fixes something."""
    TOO_LARGE = "too_large"
    """The transaction is larger than the server allows: try its halves. A row that alone is too large is rejected."""
    UNKNOWN = "unknown"
    """The number does not show whose fault it is. The row is at fault only if it fails again and again while others are accepted."""


class ErrorRule(NamedTuple):
    """One line of the table."""

    action: ErrorAction
    meaning: str
    hint: str | None = None


def build_rules(*groups: tuple[ErrorAction, str | None, Mapping[int, str]]) -> Mapping[int, ErrorRule]:
    """Return the table of (action, hint, meanings by number). ValueError for a number that is there twice."""
    made: dict[int, ErrorRule] = {}
    for fate, hint, meanings in groups:
        for errno, meaning in meanings.items():
            if errno in made:
                raise ValueError(f"errno {errno} stands twice in the fault table")
            made[errno] = ErrorRule(fate, meaning, hint)
    return MappingProxyType(made)
