"""The search for the rows that the database refuses: a batch is halved down to them, and the others are stored.

Nothing here waits or owns a clock: `commit` is one transaction, as the caller makes it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sensorsync.pipeline.contract import (
    BatchRejected,
    Row,
    RowSuspected,
    TransactionTooLarge,
)
from sensorsync.pipeline.suspects import TransactionSize

Commit = Callable[[Sequence[Row]], int]
"""Commit these rows in one transaction; return how many were new. Raises as `contract.Sink.write` does."""

_MAX_UNEXPLAINED = 16


class DatabaseAway(Exception):
    """A `commit` that does not wait for the database found it away: the rows that are left are not tried now."""


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
        self._unexplained = 0
        self.last_success = object()
        """A marker that is a new object after each row that any writer stored."""

    @property
    def is_open(self) -> bool:
        """True when the last `limit` messages were all rejected."""
        return self._consecutive >= self._limit

    def record_success(self) -> None:
        """Close the breaker, because a row was stored."""
        self._consecutive = self._unexplained = 0
        self.last_success = object()

    def record_rejection(self) -> None:
        """Count a message of which the first row was rejected."""
        with self._lock:
            self._consecutive += 1

    def allows_set_aside(self) -> bool:
        """Return True when a message may be set aside for a failure without evidence against its row, and count that failure.

        A few may, so that a poison row does not stop the others. When as many fail with none stored between them, it is an outage.
        """
        with self._lock:
            self._unexplained = min(self._unexplained + 1, _MAX_UNEXPLAINED + 1)
            return self._unexplained <= _MAX_UNEXPLAINED


@dataclass
class RowOutcomes:
    """The result for the rows of one batch, by index. A row that is in none of the mappings is stored."""

    new: int = 0
    rejected: dict[int, BatchRejected] = field(default_factory=dict)
    suspected: dict[int, RowSuspected] = field(default_factory=dict)
    unavailable: dict[int, Exception] = field(default_factory=dict)
    """Rows that were not tried to the end, because the database was away; empty where `commit` waits for it."""

    @property
    def failures(self) -> int:
        """The number of rows that are not stored."""
        return len(self.rejected) + len(self.suspected) + len(self.unavailable)


class Bisection:
    """The way in which one writer stores the rows of a batch, one transaction after the other."""

    def __init__(self, breaker: RejectionBreaker, size: TransactionSize, clock: Callable[[], float]) -> None:
        self._breaker = breaker
        self._size = size
        self._clock = clock

    def store(self, rows: Sequence[Row], message_indices: Sequence[int], commit: Commit) -> RowOutcomes:
        """Store what the database takes: k refused rows of n cost O(k log n) transactions.

        A row that was refused before the latest store is tried once more: the database may have refused everything until then.
        """
        outcomes = RowOutcomes()
        refused_at = self._bisect(range(len(rows)), rows, commit, outcomes, message_indices)
        while stale := [row for row, mark in refused_at.items() if mark is not self._breaker.last_success]:
            before = outcomes.failures
            for row in stale:
                del outcomes.rejected[row]
            refused_at = self._bisect(stale, rows, commit, outcomes)
            if outcomes.failures >= before:
                break
        return outcomes

    def _bisect(
        self,
        indices: Sequence[int],
        rows: Sequence[Row],
        commit: Commit,
        outcomes: RowOutcomes,
        message_indices: Sequence[int] | None = None,
    ) -> dict[int, object]:
        """Store the rows at `indices`; return those that are refused, each with the latest store before it.

        `message_indices`: count the refusals, once for each message. None: they were counted before.
        """
        refused_at: dict[int, object] = {}
        last = -1
        spans = self._spans(0, len(indices))
        while spans:
            low, high = spans.pop()
            if len(parts := self._spans(low, high)) > 1:  # the size was found to be too large since the span was made
                spans += parts
                continue
            row = indices[low]
            try:
                outcomes.new += commit(
                    rows if high - low == len(rows) else [rows[index] for index in indices[low:high]]
                )
            except TransactionTooLarge:
                self._size.record_too_large(high - low, self._clock())
                spans += self._spans(low, high)
            except BatchRejected as refusal:
                if high - low > 1:
                    middle = (low + high) // 2
                    spans += [(middle, high), (low, middle)]
                    continue
                outcomes.rejected[row] = refusal
                refused_at[row] = self._breaker.last_success
                if message_indices is not None and message_indices[row] != last:
                    self._breaker.record_rejection()
                    last = message_indices[row]
            except RowSuspected as suspicion:
                outcomes.suspected[row] = suspicion
            except DatabaseAway as error:
                for start, end in [(low, high), *spans]:
                    outcomes.unavailable |= dict.fromkeys(indices[start:end], error)
                break
            else:
                self._breaker.record_success()
        return refused_at

    def _spans(self, low: int, high: int) -> list[tuple[int, int]]:
        """Return the parts of low to high that are small enough for a transaction, the last one first."""
        step = max(1, self._size.limit(high - low, self._clock()))
        return [(start, min(start + step, high)) for start in range(low, high, step)][::-1]
