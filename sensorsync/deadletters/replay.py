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

from sensorsync.deadletters.box import DeadLetters, Refusal, Taken
from sensorsync.deadletters.letters import StoredLetter
from sensorsync.pipeline.contract import DeadLetter
from sensorsync.pipeline.writer import BatchWriter

logger = logging.getLogger(__name__)

PATIENCE = 3
"""How often a batch is tried again before the database counts as unavailable: a lock wait or a fail-over may pass."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a letter that was refused again is tried next (seconds, doubling), and after how many attempts never."""

    max_attempts: int
    backoff_min: float
    backoff_max: float

    def refusal(self, letter: StoredLetter, again: DeadLetter, now: float) -> Refusal:
        """What becomes of a letter that was refused again at `now` (Unix time)."""
        attempts = letter.attempts + 1
        state = "quarantined" if attempts >= self.max_attempts else "parked"
        delay = min(self.backoff_max, self.backoff_min * 2.0 ** min(attempts - 1, 64))
        return Refusal(letter, again.reason, again.errno, again.message, state, now + delay)


@dataclass(slots=True)
class Tally:
    """What became of letters so far."""

    stored: int = 0
    duplicates: int = 0
    """Rows that were there before: of what is stored now, and the good ones of a letter that is refused again for others."""
    refused: int = 0
    quarantined: int = 0
    """Of these, the ones that are not tried again."""
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def tried(self) -> int:
        """Stored or refused."""
        return self.stored + self.refused


class LeaveInBox:
    """The DeadLetterBox of a replay's writers: what they refuse is in the box already, and stays."""

    def park(self, letters: Sequence[DeadLetter]) -> int:  # noqa: ARG002 - the signature is that of every box
        """Nothing is new."""
        return 0


class Pace:
    """`rate` letters a second, None: as fast as it goes. Pure: it is told the time."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._free_at = 0.0

    def batch(self, size: int) -> int:
        """How many letters a batch has at most: the work of a second, not a burst and a long silence."""
        return size if self._rate is None else max(1, min(size, int(self._rate)))

    def wait(self, now: float) -> float:
        """Seconds until the next batch may begin."""
        return max(0.0, self._free_at - now)

    def took(self, count: int, now: float) -> None:
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
        numbers: array[int],
        policy: RetryPolicy,
        *,
        batch_size: int,
        batch_bytes: int,
        rate: float | None = None,
        report_every: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.tally = Tally()
        self._box = box
        self._numbers = numbers
        self._place = 0
        self._policy = policy
        self._pace = Pace(rate)
        self._batch_size = self._pace.batch(batch_size)
        self._batch_bytes = batch_bytes
        self._clock = clock
        self._report_every = report_every
        self._reported = time.monotonic()
        self._taking = threading.Lock()
        self._counting = threading.Lock()
        self._halt = threading.Event()
        self._tries = threading.local()

    @property
    def left(self) -> int:
        """How many letters were not taken."""
        return len(self._numbers) - self._place

    def stop(self) -> None:
        """Finish the batches that are under way, and take no more."""
        self._halt.set()

    def work(self, writer: BatchWriter) -> None:
        """Replay batches until none is left. Raises BatchKept, SinkMisconfigured, DeadLetterBoxError; then nobody takes another."""
        try:
            while (taken := self._next()).numbers:
                self._tries.left = PATIENCE
                report = writer.write(taken.deliveries)
                self._settle(taken.numbers, report.rejected, report.duplicates)
        except BaseException:
            self._halt.set()
            raise

    def pause(self, seconds: float) -> bool:
        """Wait before a batch is tried again (what a BatchWriter asks for); False when it has been tried often enough."""
        self._tries.left -= 1
        return self._tries.left >= 0 and not self._halt.wait(seconds)

    def _next(self) -> Taken:
        with self._taking:
            while self.left and not self._halt.wait(self._pace.wait(time.monotonic())):
                numbers = self._numbers[self._place : self._place + self._batch_size]
                taken = self._box.take(numbers, self._batch_bytes)
                # Those that are gone or quarantined by now are passed over; where the batch ended for its bytes, the rest is next.
                cut = taken.numbers and len(taken.numbers) < len(numbers)
                self._place += numbers.index(taken.numbers[-1]) + 1 if cut else len(numbers)
                if taken.numbers:
                    self._pace.took(len(taken.numbers), time.monotonic())
                    return taken
            return Taken([], [])

    def _settle(self, numbers: Sequence[int], rejected: Mapping[int, DeadLetter], duplicates: int) -> None:
        now = self._clock()
        stored = [number for place, number in enumerate(numbers) if place not in rejected]
        again = {numbers[place]: letter for place, letter in rejected.items()}
        refused = [self._policy.refusal(letter, again[letter.id], now) for letter in self._box.whole(list(again))]
        self._box.settle(stored, refused, now)
        with self._counting:
            tally = self.tally
            tally.stored += len(stored)
            tally.duplicates += duplicates
            tally.refused += len(rejected)
            tally.quarantined += sum(refusal.state == "quarantined" for refusal in refused)
            tally.reasons.update(letter.reason for letter in rejected.values())
            self._report()

    def _report(self) -> None:
        if time.monotonic() - self._reported < self._report_every:
            return
        self._reported = time.monotonic()
        logger.info(
            "[REPLAY] %s of %s letters: %s stored, %s refused again",
            f"{self.tally.tried:,}",
            f"{len(self._numbers):,}",
            f"{self.tally.stored:,}",
            f"{self.tally.refused:,}",
            extra={
                "event": "replay",
                "tried": self.tally.tried,
                "stored": self.tally.stored,
                "refused": self.tally.refused,
            },
        )
