"""The combined status of several processes, restarts included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from sensorsync.pipeline.counters import Snapshot

_SNAPSHOT_FIELDS = tuple(field.name for field in fields(Snapshot))
_SUMMED_FIELDS = (
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
_MAPPING_FIELDS = ("flushes", "parked_by_reason")
_NO_COUNTS: dict[str, Any] = {**dict.fromkeys(_SUMMED_FIELDS, 0), **{name: {} for name in _MAPPING_FIELDS}}
_EMPTY_SNAPSHOT = Snapshot(**_NO_COUNTS, new=0, rate=0.0, latency=0.0, first_arrival=None, last_settled=None)


class ProcessTotals:
    """The sums of the status records of all processes, with the same values as `PipelineCounters`.

    The counters of a restarted process begin at 0, so the totals of its earlier runs are added here. The counts of a killed process
    after its last record are lost. Its rows are in the database all the same, and arrive again as duplicates.
    """

    def __init__(self, now: float) -> None:
        self._ended_totals = _EMPTY_SNAPSHOT
        self._running_snapshots: dict[int, Snapshot] = {}
        self._interval_start = now
        self._interval_start_rows = 0
        self._latency_sum = 0.0
        self._latency_count = 0

    def update(self, number: int, record: Mapping[str, Any]) -> None:
        """Store the latest status of process `number`. `record` has the fields of a `Snapshot`."""
        status = Snapshot(**{name: record[name] for name in _SNAPSHOT_FIELDS})
        self._running_snapshots[number] = status
        self._latency_sum += status.latency * status.new
        self._latency_count += status.new

    def process_ended(self, number: int) -> None:
        """Add the counts of a process that has ended to the totals. The broker still has the messages that it held."""
        if (last := self._running_snapshots.pop(number, None)) is not None:
            nothing_now: dict[str, Any] = {"queue_depth": 0, "links": 0, "in_flight": 0, "window": 0}
            self._ended_totals = _sum_snapshots([self._ended_totals, replace(last, **nothing_now)])

    def running_snapshots(self) -> Mapping[int, Snapshot]:
        """Return the latest snapshot of each process that runs, by number."""
        return self._running_snapshots

    @property
    def settled(self) -> int:
        """Messages that are stored or parked."""
        return self._ended_totals.settled + sum(status.settled for status in self._running_snapshots.values())

    @property
    def rows_since_report(self) -> int:
        """Rows committed since the last report."""
        return self._rows_stored - self._interval_start_rows

    def snapshot(self, now: float) -> Snapshot:
        """Return a snapshot of the totals, without starting a new interval."""
        return replace(
            _sum_snapshots([self._ended_totals, *self._running_snapshots.values()]),
            new=self.rows_since_report,
            rate=self.rows_since_report / max(now - self._interval_start, 1e-9),
            latency=self._latency_sum / self._latency_count if self._latency_count else 0.0,
        )

    def take_interval_snapshot(self, now: float) -> Snapshot:
        """Return a snapshot for a report, and start a new interval for `new`, `rate` and `latency`."""
        snapshot = self.snapshot(now)
        self._interval_start, self._interval_start_rows = now, self._rows_stored
        self._latency_sum, self._latency_count = 0.0, 0
        return snapshot

    @property
    def _rows_stored(self) -> int:
        return self._ended_totals.landed + sum(status.landed for status in self._running_snapshots.values())


def _sum_snapshots(parts: list[Snapshot]) -> Snapshot:
    total: dict[str, Any] = {name: sum(getattr(part, name) for part in parts) for name in _SUMMED_FIELDS}
    for name in _MAPPING_FIELDS:
        counter: Counter[str] = Counter()
        for part in parts:
            counter.update(getattr(part, name))
        total[name] = dict(counter)
    arrivals = [part.first_arrival for part in parts if part.first_arrival is not None]
    settled = [part.last_settled for part in parts if part.last_settled is not None]
    return replace(
        _EMPTY_SNAPSHOT, **total, first_arrival=min(arrivals, default=None), last_settled=max(settled, default=None)
    )
