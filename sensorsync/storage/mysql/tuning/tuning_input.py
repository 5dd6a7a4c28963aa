"""The input of the tuning advice, and the form of a piece of advice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sensorsync.storage.mysql.tuning.product import Product


class Profile(StrEnum):
    """The amount of data that a crash may lose."""

    DURABLE = "durable"
    BALANCED = "balanced"
    THROUGHPUT = "throughput"

    @property
    def loss_description(self) -> str:
        """A sentence about the rows with acknowledged messages that a crash loses."""
        return _LOSS_DESCRIPTIONS[self]


_NO_REDELIVERY_NOTE = "Their messages are acknowledged, so the broker sends them no more: they are gone for good."
_LOSS_DESCRIPTIONS = {
    Profile.DURABLE: "With it a crash loses nothing: a row is on disk before its message is acknowledged.",
    Profile.BALANCED: (
        "With it, when the host of the database crashes or loses power, the rows of about the last second are lost. "
        f"{_NO_REDELIVERY_NOTE} When only the server process dies, nothing is lost."
    ),
    Profile.THROUGHPUT: (
        "With it, when the database server dies (a crash, the OOM killer, kill -9), or its host crashes or loses power, the rows of"
        f" about the last second are lost; that can be tens of thousands. {_NO_REDELIVERY_NOTE}"
    ),
}


@dataclass(frozen=True, slots=True)
class TuningInput:
    """All facts that the advice depends on."""

    variables: Mapping[str, str]
    """The rows of SHOW GLOBAL VARIABLES, with names in lower case."""
    product: Product
    profile: Profile
    memory: int | None
    """Bytes of memory of the server's machine, or None when it is not known."""
    connections: int
    """The maximum number of connections that our own processes open."""

    def int_variable(self, variable: str) -> int | None:
        """Return a variable as a number, or None when the server does not have it or its value is not a number."""
        text = self.variables.get(variable, "")
        return int(text) if text.isdecimal() else None

    def is_on(self, variable: str) -> bool:
        """Return True when a variable exists and is switched on."""
        return self.variables.get(variable, "").upper() in {"ON", "1", "YES", "TRUE"}


@dataclass(frozen=True, slots=True)
class Advice:
    """One line of the report. Values are written as in SHOW GLOBAL VARIABLES."""

    variable: str
    now: str
    advised: str
    why: str
    risk: str
    """The risk of the advised value. Empty when no risk is known."""
    dynamic: bool
    """True when SET GLOBAL can set the variable. Otherwise it is read only at the start of the server."""
    by_hand: bool = False
    """True when only a person can decide if the value is safe. It is never set, and is a comment in the configuration file."""

    @property
    def differs(self) -> bool:
        """True when the value is not the advised one."""
        return self.advised != self.now
