"""The counters of the pipeline, and a frozen snapshot of them.

Counting is on the hot path and costs only additions of integers, by batch wherever that is precise enough. Each object is written by
one thread. The event loop's thread writes a `PipelineCounters`, and each writer's thread its own `WriterCounters`.
`ConnectionPoolCounters` has a lock. A snapshot may be taken at any time.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

BATCH_SIZE_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000)
"""Upper bounds of the histogram of batch sizes, in messages."""
DURATION_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Upper bounds of the histograms of durations inside sensorsync, in seconds."""
AGE_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21_600, 86_400)
"""Upper bounds of the histogram of the age of readings, in seconds. They may have waited in a device or a broker for a day."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counters at one moment. Counts are of messages since the start unless documented otherwise; durations are in seconds."""

    received: int
    landed: int
    """Committed rows: one for each message, unless a mapping makes several rows of one message."""
    duplicates: int
    """The number of these rows that were in the table before (redeliveries)."""
    parked: int
    settled: int
    """Messages that are stored or parked, and acknowledged where the QoS requires it."""
    queue_depth: int
    """Messages received and not yet settled."""
    retries: int
    """Transactions that were repeated."""
    batches: int
    flushes: Mapping[str, int]
    """Batches by the reason why they were due."""
    parked_by_reason: Mapping[str, int]
    reconnects: int
    sessions_lost: int
    links: int
    """Connections that are up now."""
    in_flight: int
    """Messages received on these connections and not yet acknowledged."""
    window: int
    """The estimated limit of `in_flight` at which the broker stops sending. 65535 or more on each connection means no limit."""
    resends: int
    """Copies of a delivery that is not settled yet."""
    new: int
    """Rows committed since the last snapshot that was taken for a report."""
    rate: float
    """Rows committed per second since that snapshot."""
    latency: float
    """Mean seconds from arrival to settled, since that snapshot."""
    first_arrival: float | None
    """The arrival of the first message, in seconds on the loop's clock, which all processes of a machine share."""
    last_settled: float | None
    """The time at which the last batch was settled, on the same clock."""

    @property
    def overall_rate(self) -> float:
        """Rows committed per second, from the first arrival to the last settled batch."""
        if self.first_arrival is None or self.last_settled is None:
            return 0.0
        return self.landed / max(self.last_settled - self.first_arrival, 1e-9)


class RetryCause(StrEnum):
    """The reason why a batch was kept, to be retried."""

    DATABASE = "database"
    """The database could not be reached, or could not store the batch."""
    LOCK = "lock"
    """A deadlock. The batch is retried at once."""
    CONFIGURATION = "configuration"
    """The database is not set up for sensorsync: a table, a privilege or a password is missing or wrong."""
    REFUSALS = "refusals"
    """The database rejects every row, so the cause is not in the rows."""
    SUSPECT = "suspect"
    """The database refuses one message with an error that does not show whether the message is at fault. It is set aside."""
    DEAD_LETTERS = "dead_letters"
    """The dead-letter box cannot be written."""


class Histogram:
    """The distribution of values over buckets.

    `counts[i]` values were at most `bounds[i]` and above the previous bound. The last count is of values above all bounds.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Count a value that was seen `count` times. A negative value (a clock was set back) counts as 0."""
        value = max(value, 0.0)
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count

    def sum_and_counts(self) -> list[float]:
        """Return the sum of all values, followed by the counts."""
        return [self._sum, *self._counts]


class WriterCounters:
    """Counters of one writer thread."""

    def __init__(self) -> None:
        self.batch_seconds = Histogram(DURATION_BUCKETS)
        self.commit_seconds = Histogram(DURATION_BUCKETS)
        self.event_age_seconds = Histogram(AGE_BUCKETS)
        self.retries_by_cause: Counter[tuple[str, str]] = Counter()
        """Retries by cause and error number (empty when there is none)."""
        self.blocked_by: tuple[RetryCause, str] | None = None
        """The cause and the message of the error for which the writer's batch is kept; None while it makes progress."""
        self.last_commit = 0.0
        """Unix time of the latest commit; 0 before the first."""

    def count_retry(self, cause: RetryCause, error: Exception) -> None:
        """Count a batch that is kept because of `error`, and will be retried."""
        errno = getattr(error, "errno", None)
        self.retries_by_cause[cause, "" if errno is None else str(errno)] += 1

    def count_commit(self, seconds: float, event_time: str | None) -> None:
        """Count a commit after `seconds`. `event_time` is the `ts` of one row of the transaction, as a sample of all of them."""
        self.last_commit = time.time()
        self.commit_seconds.observe(seconds)
        if event_time is not None:
            self.event_age_seconds.observe(self.last_commit - datetime.fromisoformat(f"{event_time}+00:00").timestamp())


class ConnectionPoolCounters:
    """Counters of a pool of database connections. Any thread may call."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.in_use = self.opened = self.discarded = self.waits = 0
        self._lock = threading.Lock()

    def add(self, *, in_use: int = 0, opened: int = 0, discarded: int = 0, waits: int = 0) -> None:
        """Add to the counters."""
        with self._lock:
            self.in_use += in_use
            self.opened += opened
            self.discarded += discarded
            self.waits += waits


class _HasInFlight(Protocol):
    @property
    def in_flight(self) -> int: ...


class _HasWindow(Protocol):
    window: int


class PipelineCounters:
    """Counters of one pipeline."""

    def __init__(self, now: float) -> None:
        self.received = self.rows_stored = self.redelivered_rows = self.parked = self.settled = 0
        self.retries = self.batches = self.reconnects = self.sessions_lost = self.links = self.resends = 0
        self.flushes: Counter[str] = Counter()
        self.parked_by_reason: Counter[str] = Counter()
        self.queue_bytes = 0
        """Bytes of the topics and payloads of messages received and not yet settled."""
        self.reading_paused = False
        """True while the sockets are not read, because too much is in memory."""
        self.reading_pauses = 0
        self.oldest_arrival: Callable[[], float | None] = lambda: None
        """A function that returns the arrival of the oldest unsettled delivery, in seconds on the loop's clock, or None."""
        self.ledgers: dict[int, _HasInFlight] = {}
        """Link -> its ledger of deliveries in flight."""
        self.window_estimate: _HasWindow | None = None
        """The estimate of the broker's delivery window."""
        self.writers: list[WriterCounters] = []
        self.batch_sizes = Histogram(BATCH_SIZE_BUCKETS)
        self.received_to_stored_seconds = Histogram(DURATION_BUCKETS)
        """The time from arrival to settled, over all messages."""
        self.first_arrival: float | None = None
        self._last_settled: float | None = None
        self._interval_start = now
        self._interval_start_rows = 0
        self._latency_sum = 0.0
        self._latency_count = 0

    @property
    def rows_since_report(self) -> int:
        """Rows committed since the last report."""
        return self.rows_stored - self._interval_start_rows

    @property
    def queue_depth(self) -> int:
        """Messages received and not yet settled."""
        return self.received - self.settled

    def add_writer(self) -> WriterCounters:
        """Add the counters of one more writer and return them. The writer's thread may call this."""
        counters = WriterCounters()
        self.writers.append(counters)
        return counters

    def count_batch(
        self,
        *,
        messages_stored: int,
        rows_stored: int,
        redelivered_rows: int,
        parked: Mapping[str, int],
        transactions: int,
        arrivals: Sequence[tuple[int, float]],
        now: float,
    ) -> None:
        """Count a batch that is settled at `now`, in seconds on the clock of `PipelineCounters`.

        `messages_stored` are the messages without a rejected row, `rows_stored` the committed rows of all messages, and
        `redelivered_rows` those of them that were in the table before. `arrivals` are (number of messages, time of arrival) on
        the same clock.
        """
        rejected = sum(parked.values())
        self._last_settled = now
        self.batches += 1
        self.rows_stored += rows_stored
        self.redelivered_rows += redelivered_rows
        self.parked += rejected
        self.settled += messages_stored + rejected
        self.retries += transactions - 1
        self.parked_by_reason.update(parked)
        self.batch_sizes.observe(messages_stored + rejected)
        for count, when in arrivals:
            self.received_to_stored_seconds.observe(now - when, count)
            self._latency_sum += count * (now - when)
        self._latency_count += messages_stored + rejected

    def snapshot(self, now: float) -> Snapshot:
        """Return a snapshot of the counters, without starting a new interval."""
        elapsed = max(now - self._interval_start, 1e-9)
        return Snapshot(
            received=self.received,
            landed=self.rows_stored,
            duplicates=self.redelivered_rows,
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
            in_flight=sum([ledger.in_flight for ledger in list(self.ledgers.values())]),
            window=self.links * (self.window_estimate.window if self.window_estimate else 0),
            resends=self.resends,
            new=self.rows_since_report,
            rate=self.rows_since_report / elapsed,
            latency=self._latency_sum / self._latency_count if self._latency_count else 0.0,
            first_arrival=self.first_arrival,
            last_settled=self._last_settled,
        )

    def take_interval_snapshot(self, now: float) -> Snapshot:
        """Return a snapshot for a report, and start a new interval for `new`, `rate` and `latency`."""
        snapshot = self.snapshot(now)
        self._interval_start, self._interval_start_rows = now, self.rows_stored
        self._latency_sum, self._latency_count = 0.0, 0
        return snapshot
