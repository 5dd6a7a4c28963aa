"""BatchWriter: every message of a batch is stored, parked, or the batch is kept. There is no fourth way out.

It runs in a writer's thread but owns neither the thread nor the clock: waiting is a function that it is given, and that function
saying "stop" is the only way in which a batch ends without an outcome. Then nothing of it is acknowledged.
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
"""How many deadlocks in a row are retried at once before the back-off begins."""


class BatchKept(Exception):
    """The pipeline stops before the batch could be stored or parked: it stays unacknowledged, and the broker will send it again."""


class RejectionBreaker:
    """Tells a poison row from a database that refuses everything.

    Rows of `limit` messages refused in a row with none stored between, counted over batches and writers, are *systemic*: the fault
    is not in the rows, so they are kept, not parked. One row stored ends it, also for a batch that is kept: its poison is parked.
    """

    def __init__(self, limit: int = 100) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._consecutive = 0
        self.last_success = object()
        """Another object after each row that was stored, by whichever writer."""

    @property
    def is_open(self) -> bool:
        """Whether the last `limit` messages were all refused."""
        return self._consecutive >= self._limit

    def record_success(self) -> None:
        """A row was stored."""
        self._consecutive = 0
        self.last_success = object()

    def record_rejection(self) -> None:
        """A message's first row was refused."""
        with self._lock:
            self._consecutive += 1


class BatchWriter:
    """The work of one writer.

    `pause(seconds)` waits and returns False when the pipeline gives up waiting. `wait_for_database`: a misconfigured database is
    waited for instead of stopping the process.
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
        """Store or park every one of `deliveries`; returns only when that is on disk.

        Raises BatchKept when the pipeline stops first, SinkMisconfigured when only a person can help.
        """
        started = time.monotonic()
        self._transactions = parts = rows = new = 0
        rejected: dict[int, DeadLetter] = {}
        for part in decode_batch(deliveries, self._decode):
            found, refused = self._store(part.rows, part.message_indices)
            rejected |= part.dead_letters(deliveries, refused)
            parts += bool(part.rows)
            rows += len(part.rows) - len(refused)
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
        """Give the sink's connection back."""
        self._sink.close()

    # -- store ---------------------------------------------------------------------------------------------------------------

    def _store(self, rows: Sequence[Row], message_indices: Sequence[int]) -> tuple[int, Mapping[int, BatchRejected]]:
        """Commit all that the database takes: how many rows were new, and the refusals by index."""
        before = self._breaker.last_success
        while True:
            new, refused = self._bisect(rows, message_indices)
            # Where anything was stored since the batch began, be it of another table, the fault is in the rows: many in a row only
            # look like a broken table, and would look so at each further try.
            if not refused or not self._breaker.is_open or self._breaker.last_success is not before:
                self._counters.blocked_by = None
                return new, refused
            some = next(iter(refused.values()))
            self._wait_before_retry(
                RetryCause.REFUSALS,
                "the database refuses every reading; they are kept, not parked",
                some,
                hint="mend the table or the mapping: `sensorsync init-db --check`",
            )

    def _bisect(self, rows: Sequence[Row], message_indices: Sequence[int]) -> tuple[int, dict[int, BatchRejected]]:
        """Halve a refused batch down to its poison rows: k of n rows cost O(k log n) transactions; the others are stored."""
        new = 0
        refused: dict[int, BatchRejected] = {}
        last = -1
        spans = [(0, len(rows))] if rows else []
        while spans:
            low, high = spans.pop()
            try:
                new += self._commit(rows[low:high])
            except BatchRejected as refusal:
                if high - low == 1:
                    refused[low] = refusal
                    if message_indices[low] != last:  # one message of many rows is one witness
                        self._breaker.record_rejection()
                    last = message_indices[low]
                else:
                    middle = (low + high) // 2
                    spans += [(middle, high), (low, middle)]
            else:
                self._breaker.record_success()
        return new, refused

    def _commit(self, rows: Sequence[Row]) -> int:
        """One transaction, again and again until the database says yes or no. Returns how many rows are known to be new.

        After a COMMIT whose answer was lost, the rows that the retry finds may be our own: then all count as new.
        """
        prompt = 0
        ambiguous = False
        while True:
            self._transactions += 1
            began = time.monotonic()
            try:
                new = self._sink.write(rows)
            except SinkVerificationFailed as error:
                description = "the database is not as it was verified"
                self._wait_before_retry(RetryCause.CONFIGURATION, description, error, hint=error.hint)
            except SinkUnavailable as error:
                ambiguous |= error.commit_outcome_unknown
                prompt = prompt + 1 if error.retry_immediately else 0
                if 0 < prompt <= IMMEDIATE_RETRIES:
                    self._counters.count_retry(RetryCause.LOCK, error)
                else:
                    self._wait_before_retry(RetryCause.DATABASE, "database unavailable", error)
            except SinkMisconfigured as error:
                if not self._wait_for_database:
                    raise
                self._wait_before_retry(
                    RetryCause.CONFIGURATION, "the database is not ready for us", error, hint=error.hint
                )
            else:
                self._backoff.reset()
                self._counters.blocked_by = None
                self._counters.count_commit(time.monotonic() - began, rows[-1].ts)
                return len(rows) if ambiguous else new

    # -- park ----------------------------------------------------------------------------------------------------------------

    def _park(self, rejected: Mapping[int, DeadLetter]) -> None:
        letters = list(rejected.values())
        while True:
            try:
                self._box.park(letters)
            except DeadLetterBoxUnavailable as error:
                hint = "make room or mend its folder's rights"
                self._wait_before_retry(RetryCause.DEAD_LETTERS, "the dead-letter box takes nothing", error, hint=hint)
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
        """Back off once; the batch is kept meanwhile. Raises BatchKept when the pipeline gives up."""
        self._counters.count_retry(cause, error)
        self._counters.blocked_by = cause, f"{description}: {error}"
        delay = self._backoff.next_delay()
        logger.warning(
            "[WORKER-%d] %s: %s; batch kept, next try in %.1fs%s",
            self._number,
            description,
            error,
            delay,
            f" - {hint}" if hint else "",
            extra={"event": "kept", "worker": self._number, "errno": getattr(error, "errno", None)},
        )
        if not self._pause(delay):
            raise BatchKept(str(error)) from error
