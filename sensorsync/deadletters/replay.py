"""Replay: letters go through the decoder and the writer of `subscribe` again, batch by batch, and what is stored leaves the box.

A batch ends in the database first and in the box after it, so a crash between leaves letters whose rows are there: their next replay
finds the rows and changes nothing. No attempt is counted before its batch has ended, so an outage leaves every letter as it was.
"""

from __future__ import annotations

import logging
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sensorsync.deadletters.box import DeadLetters, ReplayBatch, ReplayRejection
from sensorsync.deadletters.letters import StoredLetter
from sensorsync.pipeline.contract import DeadLetter, Delivery
from sensorsync.pipeline.writer import BatchWriter

logger = logging.getLogger(__name__)

MAX_JUDGEMENT_SECONDS = 120.0
"""How long letters are tried again of which it is not known whether they are at fault; then they are left as they were."""
MAX_BATCH_RETRIES = 3
"""How often a batch is tried again before the database counts as unavailable: a lock wait or a fail-over may pass."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a letter that was refused again is tried next (seconds, doubling), and after how many attempts never."""

    max_attempts: int
    backoff_min: float
    backoff_max: float

    def rejection(self, letter: StoredLetter, rejected: DeadLetter, now: float) -> ReplayRejection:
        """What becomes of a letter that was refused again at `now` (Unix time)."""
        attempts = letter.attempts + 1
        state = "quarantined" if attempts >= self.max_attempts else "parked"
        delay = min(self.backoff_max, self.backoff_min * 2.0 ** min(attempts - 1, 64))
        return ReplayRejection(letter, rejected.reason, rejected.errno, rejected.message, state, now + delay)


@dataclass(slots=True)
class ReplayTally:
    """What became of letters so far."""

    stored: int = 0
    redelivered_rows: int = 0
    """Rows that were there before: of what is stored now, and the good ones of a letter that is refused again for others."""
    rejected: int = 0
    quarantined: int = 0
    """Of these, the ones that are not tried again."""
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def attempted(self) -> int:
        """Stored or refused."""
        return self.stored + self.rejected


class NullDeadLetterQueue:
    """The DeadLetterBox of a replay's writers: what they refuse is in the box already, and stays."""

    def park(self, letters: Sequence[DeadLetter]) -> int:  # noqa: ARG002 - the signature is that of every box
        """Nothing is new."""
        return 0


class RateLimiter:
    """`rate` letters a second, None: as fast as it goes. Pure: it is told the time."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._free_at = 0.0

    def batch_size(self, size: int) -> int:
        """How many letters a batch has at most: the work of a second, not a burst and a long silence."""
        return size if self._rate is None else max(1, min(size, int(self._rate)))

    def delay(self, now: float) -> float:
        """Seconds until the next batch may begin."""
        return max(0.0, self._free_at - now)

    def batch_started(self, count: int, now: float) -> None:
        """A batch of `count` begins."""
        if self._rate is not None:
            self._free_at = max(self._free_at, now) + count / self._rate


class Replay:
    """One run over the letters `numbers`; several threads `work` on it, each with a writer of its own.

    The letters are chosen once, before it begins: none is taken twice, and what is parked meanwhile waits for the next run.
    """

    def __init__(
        self,
        box: DeadLetters,
        ids: array[int],
        policy: RetryPolicy,
        *,
        batch_size: int,
        batch_bytes: int,
        rate: float | None = None,
        report_every: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.tally = ReplayTally()
        self._box = box
        self._ids = ids
        self._position = self._undecided = 0
        self._policy = policy
        self._rate_limiter = RateLimiter(rate)
        self._batch_size = self._rate_limiter.batch_size(batch_size)
        self._batch_bytes = batch_bytes
        self._clock = clock
        self._report_every = report_every
        self._last_report = time.monotonic()
        self._batch_lock = threading.Lock()
        self._tally_lock = threading.Lock()
        self._stop_requested = threading.Event()
        self._retries = threading.local()

    @property
    def remaining(self) -> int:
        """The number of letters that were not taken, or whose fault is not known: they are as they were."""
        return len(self._ids) - self._position + self._undecided

    def stop(self) -> None:
        """Finish the batches that are under way, and take no more."""
        self._stop_requested.set()

    def run_worker(self, writer: BatchWriter) -> None:
        """Replay batches until none is left. Raises BatchKept, SinkMisconfigured, DeadLetterBoxError; then nobody takes another."""
        try:
            set_aside: dict[int, tuple[int, Delivery]] = {}
            while (taken := self._next_batch()).ids:
                self._retries.left = MAX_BATCH_RETRIES
                report = writer.write(taken.deliveries)
                for place in report.set_aside:
                    set_aside[id(taken.deliveries[place])] = taken.ids[place], taken.deliveries[place]
                decided = {taken.ids[place]: place for place in range(len(taken.ids)) if place not in report.set_aside}
                rejected = {
                    number: report.rejected[place] for number, place in decided.items() if place in report.rejected
                }
                self._finish_batch(list(decided), rejected, report.redelivered_rows)
            self._judge_set_aside(writer, set_aside)
        except BaseException:
            self._stop_requested.set()
            raise

    def _judge_set_aside(self, writer: BatchWriter, set_aside: dict[int, tuple[int, Delivery]]) -> None:
        """Try letters again of which it is not known whether they are at fault; those that stay undecided are left as they were."""
        give_up = time.monotonic() + MAX_JUDGEMENT_SECONDS
        try:
            while set_aside and (due_in := writer.retry_due_in()) is not None and time.monotonic() + due_in < give_up:
                if self._stop_requested.wait(due_in):
                    break
                self._retries.left = MAX_BATCH_RETRIES
                deliveries, report = writer.retry_set_aside()
                numbers = [set_aside.pop(id(delivery))[0] for delivery in deliveries]
                rejected = {numbers[place]: letter for place, letter in report.rejected.items()}
                self._finish_batch(numbers, rejected, report.redelivered_rows)
        finally:
            with self._tally_lock:
                self._undecided += len(set_aside)

    def wait_before_retry(self, seconds: float) -> bool:
        """Wait before a batch is tried again (what a BatchWriter asks for); False when it has been tried often enough."""
        self._retries.left -= 1
        return self._retries.left >= 0 and not self._stop_requested.wait(seconds)

    def _next_batch(self) -> ReplayBatch:
        with self._batch_lock:
            while self.remaining and not self._stop_requested.wait(self._rate_limiter.delay(time.monotonic())):
                numbers = self._ids[self._position : self._position + self._batch_size]
                taken = self._box.read_batch(numbers, self._batch_bytes)
                # Those that are gone or quarantined by now are passed over; where the batch ended for its bytes, the rest is next.
                cut = taken.ids and len(taken.ids) < len(numbers)
                self._position += numbers.index(taken.ids[-1]) + 1 if cut else len(numbers)
                if taken.ids:
                    self._rate_limiter.batch_started(len(taken.ids), time.monotonic())
                    return taken
            return ReplayBatch([], [])

    def _finish_batch(self, ids: Sequence[int], rejected: Mapping[int, DeadLetter], duplicates: int) -> None:
        """End the letters `ids`; `rejected` has the number of each that was refused again."""
        now = self._clock()
        stored = [number for number in ids if number not in rejected]
        refused = [
            self._policy.rejection(letter, rejected[letter.id], now) for letter in self._box.get_many(list(rejected))
        ]
        self._box.finish_batch(stored, refused, now)
        with self._tally_lock:
            tally = self.tally
            tally.stored += len(stored)
            tally.redelivered_rows += duplicates
            tally.rejected += len(rejected)
            tally.quarantined += sum(refusal.state == "quarantined" for refusal in refused)
            tally.reasons.update(letter.reason for letter in rejected.values())
            self._report_progress()

    def _report_progress(self) -> None:
        if time.monotonic() - self._last_report < self._report_every:
            return
        self._last_report = time.monotonic()
        logger.info(
            "[REPLAY] %s of %s letters: %s stored, %s refused again",
            f"{self.tally.attempted:,}",
            f"{len(self._ids):,}",
            f"{self.tally.stored:,}",
            f"{self.tally.rejected:,}",
            extra={
                "event": "replay",
                "tried": self.tally.attempted,
                "stored": self.tally.stored,
                "refused": self.tally.rejected,
            },
        )
