"""What advice is given on, and what a piece of advice is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sensorsync.storage.mysql.tuning.product import Product


class Profile(StrEnum):
    """How much a crash may lose."""

    DURABLE = "durable"
    BALANCED = "balanced"
    THROUGHPUT = "throughput"

    @property
    def loss_description(self) -> str:
        """In words, what a crash loses of rows whose messages are acknowledged."""
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
    """All that advice depends on."""

    variables: Mapping[str, str]
    """SHOW GLOBAL VARIABLES, names in lower case."""
    product: Product
    profile: Profile
    memory: int | None
    """Bytes of memory of the server's machine; None: not known."""
    connections: int
    """Connections that our own processes open at most."""

    def int_variable(self, variable: str) -> int | None:
        """A variable as a number; None when the server has none of that name, or it is no number."""
        text = self.variables.get(variable, "")
        return int(text) if text.isdecimal() else None

    def is_on(self, variable: str) -> bool:
        """Whether a variable is there and switched on."""
        return self.variables.get(variable, "").upper() in {"ON", "1", "YES", "TRUE"}


@dataclass(frozen=True, slots=True)
class Advice:
    """One line of the report. Values are written as SHOW GLOBAL VARIABLES does."""

    variable: str
    now: str
    advised: str
    why: str
    risk: str
    """Of the advised value. Empty: none that we know of."""
    dynamic: bool
    """SET GLOBAL can set it; else it is read at the start of the server."""
    by_hand: bool = False
    """Only a person can know whether it is safe here: it is never set, and stands in the configuration file as a comment."""

    @property
    def differs(self) -> bool:
        """Whether anything is to be done."""
        return self.advised != self.now
