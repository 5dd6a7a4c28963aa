"""Replay: letters pass through the decoder and the writer of `subscribe` again, in batches, and stored letters leave the box.

A batch ends in the database first and in the box after it. A crash in between leaves letters whose rows exist: their
next replay finds the rows and changes nothing. No attempt is counted before its batch has ended, so an outage leaves
every letter unchanged.
"""

from __future__ import annotations

import logging
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sensorsync.deadletters.box import DeadLetters, ReplayBatch
from sensorsync.deadletters.changes import ReplayRejection
from sensorsync.deadletters.letters import LetterVersion, StoredLetter
from sensorsync.pipeline.contract import DeadLetter, Delivery
from sensorsync.pipeline.writer import BatchWriter

logger = logging.getLogger(__name__)

MAX_JUDGEMENT_SECONDS = 120.0
"""Seconds for which letters are retried that may not be at fault. Then they are left as they were."""
MAX_BATCH_RETRIES = 3
"""The number of retries of a batch before the database counts as unavailable. A lock wait or a fail-over may pass in this time."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The delay before a rejected letter is tried again (seconds, doubling), and the maximum number of attempts."""

    max_attempts: int
    backoff_min: float
    backoff_max: float

    def rejection(self, letter: StoredLetter, rejected: DeadLetter, now: float) -> ReplayRejection:
        """Return the new state of a letter that was rejected again at `now` (Unix time)."""
        attempts = letter.attempts + 1
        state = "quarantined" if attempts >= self.max_attempts else "parked"
        delay = min(self.backoff_max, self.backoff_min * 2.0 ** min(attempts - 1, 64))
        return ReplayRejection(letter, rejected.reason, rejected.errno, rejected.message, state, now + delay)


@dataclass(slots=True)
class ReplayTally:
    """The number of letters by result so far."""

    stored: int = 0
    redelivered_rows: int = 0
    """The number of rows that existed before.

    These are rows of the letters that are stored now, and valid rows of letters that were rejected again because of
    other rows.
    """
    rejected: int = 0
    quarantined: int = 0
    """The number of rejected letters that are not tried again."""
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def attempted(self) -> int:
        """The number of letters that were stored or rejected."""
        return self.stored + self.rejected


class NullDeadLetterQueue:
    """The DeadLetterBox of a replay's writers. Letters that they reject are in the box already, and stay there."""

    def park(self, letters: Sequence[DeadLetter]) -> int:  # noqa: ARG002 - the signature is that of every box
        """Return 0, because no letter is new."""
        return 0


class RateLimiter:
    """A limit of `rate` letters per second, or no limit with None. The caller passes the time."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._free_at = 0.0

    def batch_size(self, size: int) -> int:
        """Return the maximum size of a batch: the letters of one second, so that the load is even."""
        return size if self._rate is None else max(1, min(size, int(self._rate)))

    def delay(self, now: float) -> float:
        """Return the seconds until the next batch may begin."""
        return max(0.0, self._free_at - now)

    def batch_started(self, count: int, now: float) -> None:
        """Record the start of a batch of `count` letters."""
        if self._rate is not None:
            self._free_at = max(self._free_at, now) + count / self._rate


class Replay:
    """One replay of the letters `ids`. Several threads call `run_worker`, each with a writer of its own.

    The ids are chosen once, before the replay begins. No letter is read twice, and letters that are parked meanwhile
    wait for the next replay.
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
        """Finish the running batches, and start no more."""
        self._stop_requested.set()

    def run_worker(self, writer: BatchWriter) -> None:
        """Replay batches until no letter is left.

        Raises BatchKept, SinkMisconfigured or DeadLetterBoxError; no worker starts another batch then.
        """
        try:
            set_aside: dict[int, tuple[LetterVersion, Delivery]] = {}
            while (taken := self._next_batch()).letters:
                self._retries.remaining = MAX_BATCH_RETRIES
                report = writer.write(taken.deliveries)
                for place in report.set_aside:
                    set_aside[id(taken.deliveries[place])] = taken.letters[place], taken.deliveries[place]
                decided = {
                    taken.letters[place]: place for place in range(len(taken.letters)) if place not in report.set_aside
                }
                rejected = {
                    letter: report.rejected[place] for letter, place in decided.items() if place in report.rejected
                }
                self._finish_batch(list(decided), rejected, report.redelivered_rows)
            self._judge_set_aside(writer, set_aside)
        except BaseException:
            self._stop_requested.set()
            raise

    def _judge_set_aside(self, writer: BatchWriter, set_aside: dict[int, tuple[LetterVersion, Delivery]]) -> None:
        """Try letters again of which it is not known whether they are at fault; those that stay undecided are left as they were."""
        give_up = time.monotonic() + MAX_JUDGEMENT_SECONDS
        try:
            while set_aside and (due_in := writer.retry_due_in()) is not None and time.monotonic() + due_in < give_up:
                if self._stop_requested.wait(due_in):
                    break
                self._retries.remaining = MAX_BATCH_RETRIES
                deliveries, report = writer.retry_set_aside()
                letters = [set_aside.pop(id(delivery))[0] for delivery in deliveries]
                rejected = {letters[place]: letter for place, letter in report.rejected.items()}
                self._finish_batch(letters, rejected, report.redelivered_rows)
        finally:
            with self._tally_lock:
                self._undecided += len(set_aside)

    def wait_before_retry(self, seconds: float) -> bool:
        """Wait before a batch is retried (the callback of a BatchWriter). Return False when the retries are used up."""
        self._retries.remaining -= 1
        return self._retries.remaining >= 0 and not self._stop_requested.wait(seconds)

    def _next_batch(self) -> ReplayBatch:
        with self._batch_lock:
            while self.remaining and not self._stop_requested.wait(self._rate_limiter.delay(time.monotonic())):
                ids = self._ids[self._position : self._position + self._batch_size]
                batch = self._box.read_batch(ids, self._batch_bytes)
                # Letters that are removed or quarantined by now are skipped. When the byte limit ended the batch, the rest is next.
                cut = batch.letters and len(batch.letters) < len(ids)
                self._position += ids.index(batch.letters[-1].id) + 1 if cut else len(ids)
                if batch.letters:
                    self._rate_limiter.batch_started(len(batch.letters), time.monotonic())
                    return batch
            return ReplayBatch([], [])

    def _finish_batch(
        self, letters: Sequence[LetterVersion], rejected: Mapping[LetterVersion, DeadLetter], redelivered_rows: int
    ) -> None:
        """End the letters that were read; `rejected` has those that were refused again."""
        now = self._clock()
        stored = [letter for letter in letters if letter not in rejected]
        rejections = [
            self._policy.rejection(letter, rejected[letter.version], now)
            for letter in self._box.get_many([version.id for version in rejected])
            if letter.version in rejected
        ]
        self._box.finish_batch(stored, rejections, now)
        with self._tally_lock:
            tally = self.tally
            tally.stored += len(stored)
            tally.redelivered_rows += redelivered_rows
            tally.rejected += len(rejected)
            tally.quarantined += sum(rejection.state == "quarantined" for rejection in rejections)
            tally.reasons.update(letter.reason for letter in rejected.values())
            self._report_progress()

    def _report_progress(self) -> None:
        if time.monotonic() - self._last_report < self._report_every:
            return
        self._last_report = time.monotonic()
        logger.info(
            "[REPLAY] %s of %s dead letters: %s stored, %s refused again",
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
