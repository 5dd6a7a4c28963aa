"""Messages that the database refuses with an error that does not show whether they are at fault: when to retry, when to park.

An unknown error number can be a poison row or an outage. The row is at fault only if it is refused again and again, over a time, while
each time another row like it is accepted. Until then its message is *set aside*: unacknowledged, tried again now and then, while the
writer goes on with others. Pure: nothing here owns a clock or a thread; time is an argument (seconds, monotonic).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sensorsync.pipeline.contract import Delivery

_DELAYS: Final = (0.5, 0.5, 1.0, 2.0)
"""Seconds between the first tries; after them `SuspectLimits.interval`."""
_OUTAGE_DELAY_LIMIT: Final = 30.0


@dataclass(frozen=True, slots=True)
class SuspectLimits:
    """The evidence after which a suspect message is parked.

    Ten tries take 32 s; two minutes leave room for slow ones.
    """

    refusals: int = 10
    """Tries that were refused one after the other, while another row was accepted each time."""
    seconds: float = 30.0
    """From the first to the last of them."""
    interval: float = 4.0
    """Seconds between tries, at most, as long as other rows are accepted."""
    known_refusals: int = 8
    known_seconds: float = 4.0
    """The same for an error number of which a row was parked before: the number is known to be about rows."""
    known_interval: float = 0.5


@dataclass(slots=True)
class Suspect:
    """One message that was set aside, and the evidence against it."""

    delivery: Delivery
    errno: int | None
    next_try: float
    refusals: int = 0
    first_refusal: float = 0.0
    outages: int = 0
    """Tries in a row that proved nothing: the other row was refused, too, or the database was away."""


class RowFaultNumbers:
    """Error numbers by which a row was parked after the full time: the next rows with them are judged faster.

    A row that is stored after it was suspected of such a number shows that the number can pass: it is forgotten. Shared by the writers
    of a process; a set of integers needs no lock.
    """

    def __init__(self) -> None:
        self._numbers: set[int | None] = set()

    def __contains__(self, errno: int | None) -> bool:
        return errno is not None and errno in self._numbers

    def add(self, errno: int | None) -> None:
        """Note that a row with this number was parked after the full time."""
        self._numbers.add(errno)

    def discard(self, errno: int | None) -> None:
        """Note that a row that was refused with this number was stored later."""
        self._numbers.discard(errno)


@dataclass
class Suspects:
    """The messages that one writer has set aside."""

    known: RowFaultNumbers = field(default_factory=RowFaultNumbers)
    limits: SuspectLimits = field(default_factory=SuspectLimits)
    _waiting: dict[int, Suspect] = field(default_factory=dict)
    """By the identity of the delivery: the same message can be delivered twice."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, delivery: Delivery, errno: int | None, now: float, *, other_row_accepted: bool) -> None:
        """Set a message aside: a row of it was refused at `now`."""
        suspect = self._waiting[id(delivery)] = Suspect(delivery, errno, now)
        if other_row_accepted:
            self.record_refusal(suspect, errno, now)
        else:
            self.record_outage(suspect, now)

    def due_in(self, now: float) -> float | None:
        """Return the seconds until a message has to be tried again, 0 if one is due; None when there is none."""
        next_try = min((suspect.next_try for suspect in self._waiting.values()), default=None)
        return None if next_try is None else max(0.0, next_try - now)

    def due(self, now: float, limit: int) -> list[Suspect]:
        """Return at most `limit` messages that are to be tried at `now`, those that have waited longest first."""
        due = [suspect for suspect in self._waiting.values() if suspect.next_try <= now]
        return sorted(due, key=lambda suspect: suspect.next_try)[:limit]

    def record_refusal(self, suspect: Suspect, errno: int | None, now: float) -> bool:
        """Return True when the message is to be parked: it was refused again, and another row like it was accepted."""
        if suspect.refusals == 0:
            suspect.first_refusal = now
        suspect.refusals += 1
        suspect.outages = 0
        suspect.errno = errno
        limits, known = self.limits, errno in self.known
        refusals, seconds = (
            (limits.known_refusals, limits.known_seconds) if known else (limits.refusals, limits.seconds)
        )
        if suspect.refusals >= refusals and now - suspect.first_refusal >= seconds:
            if not known:
                self.known.add(errno)
            return True
        interval = limits.known_interval if known else limits.interval
        place = suspect.refusals - 1
        suspect.next_try = now + (min(_DELAYS[place], interval) if place < len(_DELAYS) else interval)
        return False

    def record_outage(self, suspect: Suspect, now: float) -> None:
        """Note a try that proves nothing. Earlier refusals no longer count: the database may have been failing then, too."""
        suspect.refusals = 0
        suspect.outages += 1
        suspect.next_try = now + min(0.5 * 2.0 ** min(suspect.outages - 1, 16), _OUTAGE_DELAY_LIMIT)

    def record_stored(self, suspect: Suspect) -> None:
        """Note that the message was not at fault, and forget it."""
        self.known.discard(suspect.errno)
        self.forget([suspect])

    def forget(self, suspects: Iterable[Suspect]) -> None:
        """Drop these: they are stored or parked."""
        for suspect in suspects:
            self._waiting.pop(id(suspect.delivery), None)

    def delay(self, seconds: float, now: float) -> None:
        """Try nothing for `seconds`: tries took time that the other messages need."""
        for suspect in self._waiting.values():
            suspect.next_try = max(suspect.next_try, now + seconds)


class TransactionSize:
    """The number of rows that a transaction may have, after the server refused a larger one.

    Pure: time is an argument (seconds, monotonic).
    """

    def __init__(self, remember: float = 60.0) -> None:
        self._remember = remember
        self._limit: int | None = None
        self._until = 0.0

    def limit(self, rows: int, now: float) -> int:
        """Return how many of `rows` to try at once. After a while the limit is doubled: the server may allow more by now."""
        if self._limit is not None and now >= self._until:
            self._limit, self._until = self._limit * 2, now + self._remember
        if self._limit is not None and self._limit >= rows:
            return rows
        return self._limit or rows

    def record_too_large(self, rows: int, now: float) -> None:
        """Note that a transaction of `rows` rows, more than one, was too large."""
        half = max(1, rows // 2)
        self._limit = half if self._limit is None else min(self._limit, half)
        self._until = now + self._remember

    def forget(self) -> None:
        """Note that the size was not the cause: a row alone was refused in the same way."""
        self._limit = None
