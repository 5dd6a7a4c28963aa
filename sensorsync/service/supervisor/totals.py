"""The status of several processes, over all their lives, as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from sensorsync.pipeline.counters import Status

_NAMES = tuple(field.name for field in fields(Status))
_SUMS = (
    "received",
    "landed",
    "duplicates",
    "parked",
    "settled",
    "retries",
    "batches",
    "reconnects",
    "sessions_lost",
    "resends",
    "queue_depth",
    "links",
    "in_flight",
    "window",
)
_MAPS = ("flushes", "parked_by_reason")
_NO_COUNTS: dict[str, Any] = {**dict.fromkeys(_SUMS, 0), **{name: {} for name in _MAPS}}
_NOTHING = Status(**_NO_COUNTS, new=0, rate=0.0, latency=0.0, first_arrival=None, last_settled=None)


class Totals:
    """Counts as a `Meter` does, from the status lines of processes. One that is started again begins at 0: its past is kept here.

    A process that is killed takes with it what it counted after its last line. The rows are in the database all the same, and come
    again as duplicates.
    """

    def __init__(self, now: float) -> None:
        self._past = _NOTHING
        self._present: dict[int, Status] = {}
        self._mark_at = now
        self._mark_landed = 0
        self._latency_sum = 0.0
        self._latency_count = 0

    def heard(self, number: int, record: Mapping[str, Any]) -> None:
        """Process `number` reports: `record` has the fields of a `Status`."""
        status = Status(**{name: record[name] for name in _NAMES})
        self._present[number] = status
        self._latency_sum += status.latency * status.new
        self._latency_count += status.new

    def ended(self, number: int) -> None:
        """Process `number` is gone: what it held, the broker has."""
        if (last := self._present.pop(number, None)) is not None:
            nothing_now: dict[str, Any] = {"queue_depth": 0, "links": 0, "in_flight": 0, "window": 0}
            self._past = _sum([self._past, replace(last, **nothing_now)])

    def present(self) -> Mapping[int, Status]:
        """What each process reported last, of those that run."""
        return self._present

    @property
    def settled(self) -> int:
        """Stored or parked."""
        return self._past.settled + sum(status.settled for status in self._present.values())

    @property
    def new(self) -> int:
        """Landed since the last report."""
        return self._landed - self._mark_landed

    def status(self, now: float) -> Status:
        """A picture; it changes nothing."""
        return replace(
            _sum([self._past, *self._present.values()]),
            new=self.new,
            rate=self.new / max(now - self._mark_at, 1e-9),
            latency=self._latency_sum / self._latency_count if self._latency_count else 0.0,
        )

    def report(self, now: float) -> Status:
        """A picture for a report: the interval for `new`, `rate` and `latency` begins anew."""
        picture = self.status(now)
        self._mark_at, self._mark_landed = now, self._landed
        self._latency_sum, self._latency_count = 0.0, 0
        return picture

    @property
    def _landed(self) -> int:
        return self._past.landed + sum(status.landed for status in self._present.values())


def _sum(parts: list[Status]) -> Status:
    total: dict[str, Any] = {name: sum(getattr(part, name) for part in parts) for name in _SUMS}
    for name in _MAPS:
        counter: Counter[str] = Counter()
        for part in parts:
            counter.update(getattr(part, name))
        total[name] = dict(counter)
    arrivals = [part.first_arrival for part in parts if part.first_arrival is not None]
    settled = [part.last_settled for part in parts if part.last_settled is not None]
    return replace(
        _NOTHING, **total, first_arrival=min(arrivals, default=None), last_settled=max(settled, default=None)
    )
