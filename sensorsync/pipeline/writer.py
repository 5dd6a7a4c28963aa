"""The writer of batches. Every message of a batch is stored or parked, or the batch is kept. There is no other outcome.

It runs in a writer's thread but owns neither the thread nor the clock: it gets a function that waits. Only when that function
returns False, a batch ends without an outcome. Then none of its messages is acknowledged.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from sensorsync.pipeline.contract import (
    BatchRejected,
    DeadLetter,
    DeadLetterBox,
    DeadLetterBoxUnavailable,
    Decoder,
    Delivery,
    Row,
    Sink,
    SinkMisconfigured,
    SinkUnavailable,
    SinkVerificationFailed,
    WriteReport,
)
from sensorsync.pipeline.counters import RetryCause, WriterCounters
from sensorsync.pipeline.decoded_batch import decode_batch
from sensorsync.runtime.backoff import Backoff

logger = logging.getLogger(__name__)

IMMEDIATE_RETRIES = 5
"""The number of consecutive deadlocks that are retried at once before the back-off begins."""


class BatchKept(Exception):
    """The pipeline stops before the batch is stored or parked. It stays unacknowledged, and the broker will send it again."""


class RejectionBreaker:
    """A circuit breaker that distinguishes a poison row from a database that rejects every row.

    It opens when rows of `limit` consecutive messages are rejected and none is stored between them, counted over batches and
    writers. Then the cause is not in the rows, so the batch is kept and retried, and nothing is parked. One stored row closes the
    breaker, also for a batch that is kept. Its poison rows are parked then.
    """

    def __init__(self, limit: int = 100) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._consecutive = 0
        self.last_success = object()
        """A marker that is a new object after each row that any writer stored."""

    @property
    def is_open(self) -> bool:
        """True when the last `limit` messages were all rejected."""
        return self._consecutive >= self._limit

    def record_success(self) -> None:
        """Close the breaker, because a row was stored."""
        self._consecutive = 0
        self.last_success = object()

    def record_rejection(self) -> None:
        """Count a message of which the first row was rejected."""
        with self._lock:
            self._consecutive += 1


class BatchWriter:
    """The part of one writer thread that decodes batches, stores their rows and parks the rejected messages.

    `pause(seconds)` waits, and returns False when the pipeline aborts the retries. With `wait_for_database` the writer waits for a
    misconfigured database instead of stopping the process.
    """

    def __init__(
        self,
        number: int,
        sink: Sink,
        box: DeadLetterBox,
        decode: Decoder,
        *,
        backoff: Backoff,
        pause: Callable[[float], bool],
        breaker: RejectionBreaker,
        wait_for_database: bool = False,
        counters: WriterCounters | None = None,
    ) -> None:
        self._number = number
        self._sink = sink
        self._box = box
        self._decode = decode
        self._backoff = backoff
        self._pause = pause
        self._breaker = breaker
        self._wait_for_database = wait_for_database
        self._counters = counters or WriterCounters()
        self._transactions = 0

    def write(self, deliveries: Sequence[Delivery]) -> WriteReport:
        """Store or park all of `deliveries`, and return only when that is on disk.

        Raises BatchKept when the pipeline stops first, SinkMisconfigured when only a person can fix the database.
        """
        started = time.monotonic()
        self._transactions = parts = rows = new = 0
        rejected: dict[int, DeadLetter] = {}
        for part in decode_batch(deliveries, self._decode):
            found, rejected_rows = self._store(part.rows, part.message_indices)
            rejected |= part.dead_letters(deliveries, rejected_rows)
            parts += bool(part.rows)
            rows += len(part.rows) - len(rejected_rows)
            new += found
        if rows:
            took = (time.monotonic() - started) * 1000
            logger.debug(
                "[BATCH] Worker-%d committed %d records in %.0fms",
                self._number,
                rows,
                took,
                extra={"event": "batch", "worker": self._number, "records": rows, "duration_ms": round(took, 1)},
            )
        if rejected:
            self._park(rejected)
        self._counters.batch_seconds.observe(time.monotonic() - started)
        return WriteReport(
            messages_stored=len(deliveries) - len(rejected),
            rows_stored=rows,
            redelivered_rows=rows - min(new, rows),
            rejected=rejected,
            transactions=max(self._transactions, 1) - max(parts - 1, 0),
        )

    def close(self) -> None:
        """Return the sink's connection to the pool."""
        self._sink.close()

    # -- store ---------------------------------------------------------------------------------------------------------------

    def _store(self, rows: Sequence[Row], message_indices: Sequence[int]) -> tuple[int, Mapping[int, BatchRejected]]:
        """Commit all rows that the database accepts. Return the number of new rows, and the rejections by index."""
        before = self._breaker.last_success
        while True:
            new, rejected_rows = self._bisect(rows, message_indices)
            # If any row was stored since the batch began, even in another table, the cause is in the rejected rows. Many of them in
            # sequence only look like a broken table, and would do so at each retry.
            if not rejected_rows or not self._breaker.is_open or self._breaker.last_success is not before:
                self._counters.blocked_by = None
                return new, rejected_rows
            some = next(iter(rejected_rows.values()))
            self._wait_before_retry(
                RetryCause.REFUSALS,
                "the database rejects every row; the batch is retried, nothing is parked",
                some,
                hint="fix the table or the mapping: `sensorsync init-db --check`",
            )

    def _bisect(self, rows: Sequence[Row], message_indices: Sequence[int]) -> tuple[int, dict[int, BatchRejected]]:
        """Halve a rejected batch down to its poison rows, and store the others. k of n rows cost O(k log n) transactions."""
        new = 0
        rejected_rows: dict[int, BatchRejected] = {}
        last = -1
        spans = [(0, len(rows))] if rows else []
        while spans:
            low, high = spans.pop()
            try:
                new += self._commit(rows[low:high])
            except BatchRejected as rejection:
                if high - low == 1:
                    rejected_rows[low] = rejection
                    if message_indices[low] != last:  # a message of many rows counts as one rejection
                        self._breaker.record_rejection()
                    last = message_indices[low]
                else:
                    middle = (low + high) // 2
                    spans += [(middle, high), (low, middle)]
            else:
                self._breaker.record_success()
        return new, rejected_rows

    def _commit(self, rows: Sequence[Row]) -> int:
        """Retry one transaction until it is committed or rejected. Return the number of rows that are known to be new.

        After a COMMIT without an answer, the rows that the retry finds may come from this batch. Then all rows count as new.
        """
        immediate_retries = 0
        outcome_unknown = False
        while True:
            self._transactions += 1
            began = time.monotonic()
            try:
                new = self._sink.write(rows)
            except SinkVerificationFailed as error:
                description = "the database is not as it was verified"
                self._wait_before_retry(RetryCause.CONFIGURATION, description, error, hint=error.hint)
            except SinkUnavailable as error:
                outcome_unknown |= error.commit_outcome_unknown
                immediate_retries = immediate_retries + 1 if error.retry_immediately else 0
                if 0 < immediate_retries <= IMMEDIATE_RETRIES:
                    self._counters.count_retry(RetryCause.LOCK, error)
                else:
                    self._wait_before_retry(RetryCause.DATABASE, "database unavailable", error)
            except SinkMisconfigured as error:
                if not self._wait_for_database:
                    raise
                self._wait_before_retry(
                    RetryCause.CONFIGURATION, "the database is not set up for sensorsync", error, hint=error.hint
                )
            else:
                self._backoff.reset()
                self._counters.blocked_by = None
                self._counters.count_commit(time.monotonic() - began, rows[-1].ts)
                return len(rows) if outcome_unknown else new

    # -- park ----------------------------------------------------------------------------------------------------------------

    def _park(self, rejected: Mapping[int, DeadLetter]) -> None:
        letters = list(rejected.values())
        while True:
            try:
                self._box.park(letters)
            except DeadLetterBoxUnavailable as error:
                hint = "free disk space or fix the permissions of its directory"
                self._wait_before_retry(
                    RetryCause.DEAD_LETTERS, "the dead-letter box cannot be written", error, hint=hint
                )
            else:
                self._backoff.reset()
                self._counters.blocked_by = None
                break
        logger.warning(
            "[WORKER-%d] %d events preserved in DLQ (%s)",
            self._number,
            len(letters),
            ", ".join(sorted({letter.reason for letter in letters})),
            extra={"event": "parked", "worker": self._number, "letters": len(letters)},
        )

    def _wait_before_retry(
        self, cause: RetryCause, description: str, error: Exception, hint: str | None = None
    ) -> None:
        """Wait for one back-off delay, while the batch is kept. Raises BatchKept when the pipeline aborts the retries."""
        self._counters.count_retry(cause, error)
        self._counters.blocked_by = cause, f"{description}: {error}"
        delay = self._backoff.next_delay()
        logger.warning(
            "[WORKER-%d] %s: %s; batch kept, next retry in %.1fs%s",
            self._number,
            description,
            error,
            delay,
            f" - {hint}" if hint else "",
            extra={"event": "kept", "worker": self._number, "errno": getattr(error, "errno", None)},
        )
        if not self._pause(delay):
            raise BatchKept(str(error)) from error
