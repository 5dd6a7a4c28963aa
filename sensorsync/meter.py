"""What the pipeline counts, and a frozen picture of it.

One thread (the event loop's) writes; a picture may be taken at any time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Status:
    """The counters at one moment. Counts of messages since the start unless said otherwise; durations in seconds."""

    received: int
    landed: int
    """Stored: the row is committed."""
    duplicates: int
    """Of the stored, those whose row was there before (redeliveries)."""
    parked: int
    settled: int
    """Stored or parked, and so acknowledged where an acknowledgement was due."""
    queue_depth: int
    """Received and not yet settled."""
    retries: int
    """Transactions that had to be made again."""
    batches: int
    flushes: Mapping[str, int]
    """Batches by the reason for which they left the batcher."""
    parked_by_reason: Mapping[str, int]
    reconnects: int
    sessions_lost: int
    links: int
    """Connections that are up now."""
    resends: int
    """Copies of a delivery that is still on its way."""
    new: int
    """Landed since the last picture that was taken for a report."""
    rate: float
    """Landed per second since then."""
    latency: float
    """Mean seconds from arrival to settled, since then."""


class Meter:
    """Counters of one pipeline."""

    def __init__(self, now: float) -> None:
        self.received = self.landed = self.duplicates = self.parked = self.settled = 0
        self.retries = self.batches = self.reconnects = self.sessions_lost = self.links = self.resends = 0
        self.flushes: Counter[str] = Counter()
        self.parked_by_reason: Counter[str] = Counter()
        self._mark_at = now
        self._mark_landed = 0
        self._latency_sum = 0.0
        self._latency_count = 0

    @property
    def new(self) -> int:
        """Landed since the last report."""
        return self.landed - self._mark_landed

    @property
    def queue_depth(self) -> int:
        """Received and not yet settled."""
        return self.received - self.settled

    def batch(
        self, *, stored: int, duplicates: int, parked: Mapping[str, int], attempts: int, latency_sum: float
    ) -> None:
        """A batch is settled; `latency_sum` is the sum over its messages of seconds from arrival to now."""
        rejected = sum(parked.values())
        self.batches += 1
        self.landed += stored
        self.duplicates += duplicates
        self.parked += rejected
        self.settled += stored + rejected
        self.retries += attempts - 1
        self.parked_by_reason.update(parked)
        self._latency_sum += latency_sum
        self._latency_count += stored + rejected

    def status(self, now: float) -> Status:
        """A picture; it changes nothing."""
        elapsed = max(now - self._mark_at, 1e-9)
        return Status(
            received=self.received,
            landed=self.landed,
            duplicates=self.duplicates,
            parked=self.parked,
            settled=self.settled,
            queue_depth=self.queue_depth,
            retries=self.retries,
            batches=self.batches,
            flushes=dict(self.flushes),
            parked_by_reason=dict(self.parked_by_reason),
            reconnects=self.reconnects,
            sessions_lost=self.sessions_lost,
            links=self.links,
            resends=self.resends,
            new=self.new,
            rate=self.new / elapsed,
            latency=self._latency_sum / self._latency_count if self._latency_count else 0.0,
        )

    def report(self, now: float) -> Status:
        """A picture for a report: the interval for `new`, `rate` and `latency` begins anew."""
        picture = self.status(now)
        self._mark_at, self._mark_landed = now, self.landed
        self._latency_sum, self._latency_count = 0.0, 0
        return picture
