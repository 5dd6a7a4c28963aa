"""The writer of batches. Every message of a batch is stored or parked, or the batch is kept. There is no other outcome.

It runs in a writer's thread but owns neither the thread nor the clock: it gets a function that waits. Only when that function
returns False, a batch ends without an outcome. Then none of its messages is acknowledged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sensorsync.pipeline.bisection import Bisection, RejectionBreaker, RowOutcomes
from sensorsync.pipeline.contract import (
    DeadLetter,
    DeadLetterBox,
    DeadLetterBoxUnavailable,
    Decoder,
    Delivery,
    Row,
    RowSuspected,
    Sink,
    SinkMisconfigured,
    SinkUnavailable,
    SinkVerificationFailed,
    WriteReport,
)
from sensorsync.pipeline.counters import RetryCause, WriterCounters
from sensorsync.pipeline.decoded_batch import decode_batch
from sensorsync.pipeline.set_aside import SetAside, suspicion_by_message
from sensorsync.pipeline.suspects import RowFaultNumbers, Suspects, TransactionSize
from sensorsync.runtime.backoff import Backoff

__all__ = ["BatchKept", "BatchWriter", "RejectionBreaker"]

logger = logging.getLogger(__name__)

IMMEDIATE_RETRIES = 5
"""The number of consecutive deadlocks that are retried at once before the back-off begins."""


class BatchKept(Exception):
    """The pipeline stops before the batch is stored or parked. It stays unacknowledged, and the broker will send it again."""


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
        row_fault_numbers: RowFaultNumbers | None = None,
        clock: Callable[[], float] = time.monotonic,
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
        self._clock = clock
        self._size = TransactionSize()
        self._bisection = Bisection(breaker, self._size, clock)
        self._set_aside = SetAside(
            number,
            Suspects(row_fault_numbers or RowFaultNumbers()),
            decode,
            self._bisection,
            counters=self._counters,
            clock=clock,
        )

    def write(self, deliveries: Sequence[Delivery]) -> WriteReport:
        """Store or park each of `deliveries`, or set it aside; return only when what is stored or parked is on disk.

        Raises BatchKept when the pipeline stops first, SinkMisconfigured when only a person can fix the database.
        """
        started = self._clock()
        self._transactions = parts = rows = new = 0
        rejected: dict[int, DeadLetter] = {}
        suspected: dict[int, RowSuspected] = {}
        for part in decode_batch(deliveries, self._decode):
            outcomes = self._store(part.rows, part.message_indices)
            suspected |= suspicion_by_message(part, outcomes.suspected)
            rejected |= part.dead_letters(deliveries, outcomes.rejected)
            parts += bool(part.rows)
            rows += len(part.rows) - outcomes.failures
            new += outcomes.new
        # A message is parked once all of its rows are judged.
        rejected = {place: letter for place, letter in rejected.items() if place not in suspected}
        if rows:
            took = (self._clock() - started) * 1000
            logger.debug(
                "[BATCH] Worker-%d committed %d records in %.0fms",
                self._number,
                rows,
                took,
                extra={"event": "batch", "worker": self._number, "records": rows, "duration_ms": round(took, 1)},
            )
        if rejected:
            self._park(rejected)
        if suspected:
            self._set_aside.add(deliveries, suspected)
        self._counters.batch_seconds.observe(self._clock() - started)
        return WriteReport(
            messages_stored=len(deliveries) - len(rejected) - len(suspected),
            rows_stored=rows,
            redelivered_rows=rows - min(new, rows),
            rejected=rejected,
            transactions=max(self._transactions, 1) - max(parts - 1, 0),
            set_aside=frozenset(suspected),
        )

    def retry_due_in(self) -> float | None:
        """Return the seconds until `retry_set_aside` has something to try; None when nothing is set aside."""
        return self._set_aside.due_in() if self._set_aside else None

    def retry_set_aside(self) -> tuple[list[Delivery], WriteReport]:
        """Try messages again that were set aside; return those that are stored or parked now, on disk, and the report on them.

        It does not wait for a database that is away: the messages stay set aside. Raises BatchKept when the pipeline stops.
        """
        self._transactions = 0
        deliveries, report = self._set_aside.retry(self._commit_once, self._park)
        return deliveries, replace(report, transactions=max(self._transactions, 1))

    def close(self) -> None:
        """Return the sink's connection to the pool."""
        self._sink.close()

    # -- store ---------------------------------------------------------------------------------------------------------------

    def _store(self, rows: Sequence[Row], message_indices: Sequence[int]) -> RowOutcomes:
        """Commit all rows that the database accepts. Wait for it while it is not available."""
        before = self._breaker.last_success
        while True:
            outcomes = self._bisection.store(rows, message_indices, self._commit)
            # If any row was stored since the batch began, even in another table, the cause is in the rejected rows. Many of them in
            # sequence only look like a broken table, and would do so at each retry.
            if not outcomes.rejected or not self._breaker.is_open or self._breaker.last_success is not before:
                self._counters.blocked_by = None
                return outcomes
            some = next(iter(outcomes.rejected.values()))
            self._wait_before_retry(
                RetryCause.REFUSALS,
                "the database rejects every row; the batch is retried, nothing is parked",
                some,
                hint="fix the table or the mapping: `sensorsync init-db --check`",
            )

    def _commit_once(self, rows: Sequence[Row]) -> int:
        """Commit in one transaction, and return the number of new rows."""
        self._transactions += 1
        began = time.monotonic()
        new = self._sink.write(rows)
        self._counters.count_commit(time.monotonic() - began, rows[-1].ts)
        return new

    def _commit(self, rows: Sequence[Row]) -> int:
        """Retry one transaction until it is committed or rejected. Return the number of rows that are known to be new.

        After a COMMIT without an answer, the rows that the retry finds may come from this batch. Then all rows count as new.
        """
        immediate_retries = 0
        outcome_unknown = False
        while True:
            try:
                new = self._commit_once(rows)
            except SinkVerificationFailed as error:
                description = "the database is not as it was verified"
                self._wait_before_retry(RetryCause.CONFIGURATION, description, error, hint=error.hint)
            except SinkUnavailable as error:
                if len(rows) == 1 and not error.retry_immediately:
                    # The number of a transaction that is too large (3100) is also that of a cluster that is away.
                    self._size.forget()
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
            except RowSuspected as suspicion:
                if suspicion.other_row_accepted or self._breaker.allows_set_aside():
                    raise
                self._wait_before_retry(RetryCause.DATABASE, "the database refuses this row, and others", suspicion)
            else:
                self._backoff.reset()
                self._counters.blocked_by = None
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
