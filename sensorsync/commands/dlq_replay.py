"""`dlq replay`: dead letters once more through the decoder and the writer of `subscribe`. Made for cron."""

from __future__ import annotations

import asyncio
import sys
import time
from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Final

from sensorsync.commands.result import CommandResult
from sensorsync.config import Settings
from sensorsync.deadletters import Criteria, DeadLetters
from sensorsync.deadletters.lock import replay_lock
from sensorsync.deadletters.replay import LeaveInBox, Replay, RetryPolicy, Tally
from sensorsync.errors import DatabaseError, ExitCode, IncompleteError, InterruptedByUser, Problem
from sensorsync.pipeline.contract import SinkMisconfigured
from sensorsync.pipeline.decoded_batch import decoded
from sensorsync.pipeline.writer import BatchKept, BatchWriter, Refusals
from sensorsync.runtime.backoff import Backoff
from sensorsync.runtime.shutdown import SoftStop
from sensorsync.storage.open import database_errors, open_store
from sensorsync.storage.store import Store
from sensorsync.wiring import message_decoder

COMMAND: Final = "dlq replay"


@dataclass(frozen=True, slots=True)
class Options:
    """What is replayed, and how."""

    criteria: Criteria = field(default_factory=Criteria)
    maximum: int | None = None
    """Letters at most."""
    rate: float | None = None
    """Letters a second at most."""
    due_only: bool = True
    """Leave letters alone until their `next_retry_at`."""
    dry_run: bool = False
    """Only decode, and change nothing."""
    wait: bool = False
    """Wait for another replay of the same box to end."""


async def run(settings: Settings, options: Options) -> CommandResult:
    """Replay the letters that are due, the oldest first. A box that does not exist yet has none, and is not created.

    The exit code is OK when all that were taken are stored, INCOMPLETE when some were refused again or it was stopped, DATABASE when
    the database became unavailable: then the letters that were under way are as they were.

    Raises AlreadyRunningError, DatabaseError, DeadLetterBoxError, ConfigurationError.
    """
    began = time.monotonic()
    with SoftStop() as stop, closing(DeadLetters.of(settings)) as box:
        work = _Work(settings, options, box, stop)
        if options.dry_run:
            if box.open_read_only():
                await asyncio.to_thread(work.decode_only)
        elif box.open_to_take_out():
            async with replay_lock(box.path, stop, wait=options.wait):
                await work.replay()
        stopped = stop.reason if work.left or (stop.asked and not work.chosen) else None
    return work.result(stopped, time.monotonic() - began)


class _Work:
    """One run, and what became of it."""

    def __init__(self, settings: Settings, options: Options, box: DeadLetters, stop: SoftStop) -> None:
        self._settings = settings
        self._options = options
        self._box = box
        self._stop = stop
        self._decode = message_decoder(settings)
        self._numbers = array("q")
        self._tally = Tally()
        self._outage: DatabaseError | None = None
        self.chosen = False

    @property
    def left(self) -> int:
        """Letters that were due and that nothing became of."""
        return len(self._numbers) - self._tally.tried

    def _choose(self) -> None:
        criteria = replace(self._options.criteria, state="parked")
        due = time.time() if self._options.due_only else None
        self._numbers = self._box.numbers(criteria, due=due)[: self._options.maximum]
        self.chosen = True

    async def replay(self) -> None:
        """Replay in as many threads as `subscribe` has writers."""
        if self._stop.asked:  # while another replay was waited for
            return
        await asyncio.to_thread(self._choose)
        if not self._numbers:
            return
        letters, pipeline = self._settings.dead_letters, self._settings.pipeline
        replay = Replay(
            self._box,
            self._numbers,
            RetryPolicy(letters.max_attempts, letters.backoff_min, letters.backoff_max),
            batch_size=pipeline.batch_size,
            batch_bytes=pipeline.queue_bytes,
            rate=self._options.rate,
            report_every=pipeline.status_interval,
        )
        self._tally = replay.tally
        with closing(open_store(self._settings.database, self._settings.own_tables)) as store:
            with database_errors():
                await asyncio.to_thread(store.check_schema)
            stopping = asyncio.ensure_future(_stop_on(self._stop, replay))
            try:
                writers = min(pipeline.workers, -(-len(self._numbers) // pipeline.batch_size))
                working = (self._write(replay, store, number) for number in range(writers))
                ended = await asyncio.gather(*working, return_exceptions=True)
            finally:
                stopping.cancel()
        self._outage = _outage([error for error in ended if error is not None])
        if self._tally.stored:
            await asyncio.to_thread(self._box.tidy)

    async def _write(self, replay: Replay, store: Store, number: int) -> None:
        pipeline = self._settings.pipeline
        writer = BatchWriter(
            number,
            store.sink(number),
            LeaveInBox(),
            self._decode,
            backoff=Backoff(pipeline.backoff_min, pipeline.backoff_max),
            pause=replay.pause,
            refusals=Refusals(sys.maxsize),  # never systemic: what is refused stays in the box, whatever the cause
        )
        try:
            await asyncio.to_thread(replay.work, writer)
        finally:
            writer.close()

    def decode_only(self) -> None:
        """Count what would be decoded. What the database would say to it nobody knows."""
        self._choose()
        size = self._settings.pipeline.batch_size
        for place in range(0, len(self._numbers), size):
            if self._stop.asked:
                return
            deliveries = self._box.take(self._numbers[place : place + size], sys.maxsize).deliveries
            parts = decoded(deliveries, self._decode)
            again = [letter for part in parts for letter in part.letters(deliveries).values()]
            self._tally.refused += len(again)
            self._tally.stored += len(deliveries) - len(again)
            self._tally.reasons.update(letter.reason for letter in again)

    def result(self, stopped: str | None, seconds: float) -> CommandResult:
        """What there is to say in the end; `stopped`: by which signal, when that left something undone."""
        tally = self._tally
        data = {
            "path": str(self._box.path),
            "dry_run": self._options.dry_run,
            "due": len(self._numbers),
            "stored": tally.stored,
            "redelivered": tally.duplicates,
            "refused": tally.refused,
            "refused_by_reason": dict(tally.reasons.most_common()),
            "quarantined": tally.quarantined,
            "left": self.left,
            "stopped_by": stopped,
            "seconds": round(seconds, 3),
        }
        problems = tuple(self._problems(stopped))
        code = ExitCode.DATABASE if self._outage else ExitCode.INCOMPLETE if problems else ExitCode.OK
        return CommandResult(COMMAND, data, code, problems)

    def _problems(self, stopped: str | None) -> Iterator[Problem]:
        tally = self._tally
        if self._outage is not None:
            yield Problem.of(self._outage)
        if stopped is not None:
            yield Problem(InterruptedByUser.code, f"stopped by {stopped}; what is left is as it was")
        if tally.refused:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in tally.reasons.most_common())
            again = "would be refused" if self._options.dry_run else "were refused again"
            given_up = f"; {tally.quarantined:,} are quarantined now" if tally.quarantined else ""
            hint = (
                "`sensorsync dlq inspect` says why; quarantined letters are left alone until `sensorsync dlq release`"
            )
            yield Problem(IncompleteError.code, f"{tally.refused:,} letters {again} ({reasons}){given_up}", hint)


async def _stop_on(stop: SoftStop, replay: Replay) -> None:
    await stop.wait()
    replay.stop()


def _outage(errors: Iterable[BaseException]) -> DatabaseError | None:
    """Why it ended early, if the database is why; what else ended it is raised."""
    found: BatchKept | SinkMisconfigured | None = None
    for error in errors:
        if not isinstance(error, BatchKept | SinkMisconfigured):
            raise error
        if found is None or isinstance(error, SinkMisconfigured):
            found = error
    if found is None:
        return None
    hint = (
        found.hint if isinstance(found, SinkMisconfigured) else "replay again when it is back: nothing of them is lost"
    )
    return DatabaseError(f"the database became unavailable: {found}", hint=hint)
