"""What the pipeline counts, and a frozen picture of it.

Counting is on the hot path and costs additions of integers, by batch wherever that says enough. Each object has one thread that writes
it: the event loop's a `PipelineCounters`, each
writer's thread its own `WriterCounters`; `ConnectionPoolCounters` has a lock.
A picture may be taken at any time.
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
"""Upper bounds of the histograms of how long our own work takes."""
AGE_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21_600, 86_400)
"""Upper bounds of the histogram of how old readings are: they may have waited in a device or a broker for a day."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counters at one moment. Counts of messages since the start unless said otherwise; durations in seconds."""

    received: int
    landed: int
    """Rows that are committed: one for each message, unless a mapping makes several of one."""
    duplicates: int
    """Of these, the ones that were there before (redeliveries)."""
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
    in_flight: int
    """Received on them and not yet acknowledged."""
    window: int
    """How many that may be before the broker holds back, estimated; 65535 or more on each connection: it does not."""
    resends: int
    """Copies of a delivery that is still on its way."""
    new: int
    """Landed since the last picture that was taken for a report."""
    rate: float
    """Landed per second since then."""
    latency: float
    """Mean seconds from arrival to settled, since then."""
    first_arrival: float | None
    """When the first message came: seconds on the loop's clock, which all processes of a machine share."""
    last_settled: float | None
    """When the last batch was settled."""

    @property
    def overall_rate(self) -> float:
        """Landed per second, from the first arrival to the last commit."""
        if self.first_arrival is None or self.last_settled is None:
            return 0.0
        return self.landed / max(self.last_settled - self.first_arrival, 1e-9)


class RetryCause(StrEnum):
    """Why a batch was kept, to be tried again."""

    DATABASE = "database"
    """The database could not be reached, or could not take it."""
    LOCK = "lock"
    """A deadlock; tried again at once."""
    CONFIGURATION = "configuration"
    """The database is not ready for us: a table, a right or a password."""
    REFUSALS = "refusals"
    """It refuses every reading, so the fault is not in the readings."""
    SUSPECT = "suspect"
    """It refuses one message for a reason that does not tell whether the message is at fault: set aside."""
    DEAD_LETTERS = "dead_letters"
    """The dead-letter box takes nothing."""


class Histogram:
    """How many values were how large: `counts[i]` were at most `bounds[i]` and above the bound before, the last above all bounds."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Count a value that was seen so many times. A negative one (a clock was set back) counts as 0."""
        value = max(value, 0.0)
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count

    def sum_and_counts(self) -> list[float]:
        """The sum of all values, then the counts."""
        return [self._sum, *self._counts]


class WriterCounters:
    """What one writer counts."""

    def __init__(self) -> None:
        self.batch_seconds = Histogram(DURATION_BUCKETS)
        self.commit_seconds = Histogram(DURATION_BUCKETS)
        self.event_age_seconds = Histogram(AGE_BUCKETS)
        self.retries_by_cause: Counter[tuple[str, str]] = Counter()
        """By cause and error number (empty when there is none)."""
        self.blocked_by: tuple[RetryCause, str] | None = None
        """Why the batch in its hands is kept, and the sentence; None while it gets on."""
        self.last_commit = 0.0
        """Unix time; 0: never."""

    def count_retry(self, cause: RetryCause, error: Exception) -> None:
        """A batch is kept because of `error`, and will be tried again."""
        errno = getattr(error, "errno", None)
        self.retries_by_cause[cause, "" if errno is None else str(errno)] += 1

    def count_commit(self, seconds: float, event_time: str | None) -> None:
        """A transaction of so many seconds is committed; `event_time` is the `ts` of a row of it, which stands for all."""
        self.last_commit = time.time()
        self.commit_seconds.observe(seconds)
        if event_time is not None:
            self.event_age_seconds.observe(self.last_commit - datetime.fromisoformat(f"{event_time}+00:00").timestamp())


class ConnectionPoolCounters:
    """What a pool of database connections counts; any thread may call."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.in_use = self.opened = self.discarded = self.waits = 0
        self._lock = threading.Lock()

    def add(self, *, in_use: int = 0, opened: int = 0, discarded: int = 0, waits: int = 0) -> None:
        """Add to the counts."""
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
        """Bytes of what is received and not yet settled."""
        self.reading_paused = False
        """Whether the sockets are left alone, because too much is in memory."""
        self.reading_pauses = 0
        self.oldest_arrival: Callable[[], float | None] = lambda: None
        """When the delivery came that has waited longest: seconds on the loop's clock, None when there is none."""
        self.ledgers: dict[int, _HasInFlight] = {}
        """Link -> what it owes."""
        self.window_estimate: _HasWindow | None = None
        """Of the broker's delivery window."""
        self.writers: list[WriterCounters] = []
        self.batch_sizes = Histogram(BATCH_SIZE_BUCKETS)
        self.received_to_stored_seconds = Histogram(DURATION_BUCKETS)
        """From arrival to settled, over all messages."""
        self.first_arrival: float | None = None
        self._last_settled: float | None = None
        self._interval_start = now
        self._interval_start_rows = 0
        self._latency_sum = 0.0
        self._latency_count = 0

    @property
    def rows_since_report(self) -> int:
        """Landed since the last report."""
        return self.rows_stored - self._interval_start_rows

    @property
    def queue_depth(self) -> int:
        """Received and not yet settled."""
        return self.received - self.settled

    def add_writer(self) -> WriterCounters:
        """The counts of one more writer; its thread may call this."""
        meter = WriterCounters()
        self.writers.append(meter)
        return meter

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
        """A batch is settled at `now`: `stored` messages, and of all of them `rows`, `duplicates` of which were there before.

        `arrivals` are (how many of its messages, when they came) on the same clock.
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
        """A picture; it changes nothing."""
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
        """A picture for a report: the interval for `new`, `rate` and `latency` begins anew."""
        picture = self.snapshot(now)
        self._interval_start, self._interval_start_rows = now, self.rows_stored
        self._latency_sum, self._latency_count = 0.0, 0
        return picture
