"""Which errors the database path injects, at which statement, and what they are."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where a connection of the client stands when something happens to it."""

    CONNECT = "connect"
    """Before the server's greeting."""
    SETUP = "setup"
    """SET and SELECT, as when a session is prepared or looked at."""
    BEGIN = "begin"
    INSERT = "insert"
    COMMIT = "commit"
    """COMMIT; or a statement that writes outside of a transaction, which is its own COMMIT."""
    OTHER = "other"
    """ROLLBACK, PING, ...: they are delayed and cut, and no error is injected."""


class Kind(StrEnum):
    """What is done at a statement."""

    ERROR_BEFORE = "error_before"
    """An error answers in place of the server, which never gets the statement."""
    ERROR_AFTER = "error_after"
    """The server executes the statement; its answer is replaced by an error."""
    CUT_BEFORE = "cut_before"
    CUT_AFTER = "cut_after"
    """The server executes the statement; its answer is lost with the connection."""
    CUT_INSIDE = "cut_inside"
    """The connection breaks in the middle of the statement."""
    DELAY = "delay"
    HANG = "hang"
    """The statement is swallowed, and the connection stays open without an answer."""


LOST_RACES = (1020, 1205, 1213, 1317, 1412, 3101, 3572)
"""Rolled back or not granted in time: the same again is right at once."""
REFUSED_CONNECTIONS = (1040, 1042, 1129, 1203)
BROKEN_CONNECTIONS = (1053, 1158, 1159, 1160, 1161, 1927, 3169, 4031)
"""The server closes the connection after them."""
OUTAGES = (1021, 1030, 1036, 1037, 1041, 1047, 1114, 1290, 1836, 3032, 3100)
"""The server cannot now."""
MISCONFIGURED = (1044, 1045, 1142, 1146, 1227, 1792)
"""A person has to act; only waited for with database.wait_for_database."""

INJECTED: dict[Phase, tuple[int, ...]] = {
    Phase.CONNECT: (*REFUSED_CONNECTIONS, 1045),
    Phase.SETUP: (*BROKEN_CONNECTIONS, 1205, 1290, 1317, 3032),
    Phase.BEGIN: (*BROKEN_CONNECTIONS, *OUTAGES, 1213, 1317),
    Phase.INSERT: (*LOST_RACES, *BROKEN_CONNECTIONS, *OUTAGES, *MISCONFIGURED),
    Phase.COMMIT: (*LOST_RACES, *BROKEN_CONNECTIONS, *OUTAGES),
    Phase.OTHER: (),
}

# Unknown numbers, those whose meaning is inside their text, and those that are the row's fault at an INSERT only (here they come at
# BEGIN or COMMIT). They once parked good readings.
UNDECIDED: dict[Phase, tuple[int, ...]] = {
    Phase.BEGIN: (1105, 1180, 1449, 1644, 1815, 9001, 9005),
    Phase.INSERT: (
        *(1016, 1034, 1105, 1296, 1297, 1637, 1812, 1814, 1815, 1874, 1877, 1881, 3168, 3185, 8022, 8027, 8028),
        *range(9001, 9009),
    ),
    Phase.COMMIT: (1048, 1062, 1105, 1180, 1452, 1644, 1815, 8022, 8027, 8028, *range(9001, 9009)),
}


def numbers(*, undecided: bool) -> dict[Phase, tuple[int, ...]]:
    """Return the error numbers of each phase, with or without those of UNDECIDED."""
    return {phase: some + (UNDECIDED.get(phase, ()) if undecided else ()) for phase, some in INJECTED.items()}


_USUAL = (
    *(Kind.ERROR_BEFORE, Kind.ERROR_BEFORE, Kind.ERROR_BEFORE, Kind.ERROR_AFTER, Kind.ERROR_AFTER, Kind.ERROR_AFTER),
    *(Kind.CUT_BEFORE, Kind.CUT_AFTER, Kind.CUT_AFTER, Kind.CUT_INSIDE, Kind.DELAY, Kind.DELAY, Kind.HANG),
)
CLOSES = frozenset((*REFUSED_CONNECTIONS, *BROKEN_CONNECTIONS, 1045))


@dataclass(frozen=True, slots=True)
class Injection:
    """One thing that happens. `errno` belongs to the kinds that answer an error, `seconds` to DELAY."""

    kind: Kind
    errno: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class DatabaseFaults:
    """How often something happens, as a probability for each statement of a phase, and of which numbers to choose."""

    rates: dict[Phase, float]
    numbers: dict[Phase, tuple[int, ...]]
    kinds: tuple[Kind, ...] = _USUAL
    """Those that happen; one that stands here twice happens twice as often."""

    def choose(self, phase: Phase, rng: random.Random) -> Injection | None:
        """Return what happens to a statement of this phase, mostly None."""
        if rng.random() >= self.rates.get(phase, 0.0):
            return None
        possible = [kind for kind in self.kinds if phase is not Phase.CONNECT or kind in _AT_CONNECT]
        some = self.numbers.get(phase, ())
        if not some:
            possible = [kind for kind in possible if kind not in _ERRORS]
        if not possible:
            return None
        kind = rng.choice(possible)
        errno = rng.choice(some) if kind in _ERRORS else 0
        return Injection(kind, errno, rng.random() * rng.choice((0.02, 0.2, 1.0)))


_ERRORS = frozenset({Kind.ERROR_BEFORE, Kind.ERROR_AFTER})
_AT_CONNECT = frozenset({Kind.ERROR_BEFORE, Kind.CUT_BEFORE, Kind.DELAY, Kind.HANG})
