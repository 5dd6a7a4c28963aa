"""The `dlq replay` command, which passes dead letters to the decoder and the writer of `subscribe` again.

Made for cron.
"""

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
from sensorsync.deadletters.replay import NullDeadLetterQueue, Replay, ReplayTally, RetryPolicy
from sensorsync.errors import DatabaseError, ExitCode, IncompleteError, InterruptedByUser, Problem
from sensorsync.pipeline.contract import SinkMisconfigured
from sensorsync.pipeline.decoded_batch import decode_batch
from sensorsync.pipeline.writer import BatchKept, BatchWriter, RejectionBreaker
from sensorsync.runtime.backoff import Backoff
from sensorsync.runtime.shutdown import GracefulShutdown
from sensorsync.storage.open import database_errors, open_store
from sensorsync.storage.store import Store
from sensorsync.wiring import message_decoder

COMMAND: Final = "dlq replay"


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """The letters to replay, and the limits of the replay."""

    criteria: Criteria = field(default_factory=Criteria)
    max_letters: int | None = None
    """Maximum number of letters."""
    rate: float | None = None
    """Maximum number of letters per second."""
    due_only: bool = True
    """True to skip letters until their `next_retry_at`."""
    dry_run: bool = False
    """True to decode only, and change nothing."""
    wait: bool = False
    """True to wait until another replay of the same box ends."""


async def run(settings: Settings, options: ReplayOptions) -> CommandResult:
    """Replay the letters that are due, the oldest first. A box that does not exist yet has none, and is not created.

    The exit code is OK when all selected letters are stored, INCOMPLETE when some were refused again or the replay was
    stopped, and DATABASE when the database became unavailable. In that case the letters in flight are unchanged.

    Raises AlreadyRunningError, DatabaseError, DeadLetterBoxError, ConfigurationError.
    """
    began = time.monotonic()
    with GracefulShutdown() as stop, closing(DeadLetters.from_settings(settings)) as box:
        work = _ReplayRun(settings, options, box, stop)
        if options.dry_run:
            if box.open_read_only():
                await asyncio.to_thread(work.count_decodable)
        elif box.open_for_changes():
            async with replay_lock(box.path, stop, wait=options.wait):
                await work.replay()
        stopped = stop.reason if work.remaining or (stop.requested and not work.selected) else None
    return work.result(stopped, time.monotonic() - began)


class _ReplayRun:
    """One replay and its result."""

    def __init__(self, settings: Settings, options: ReplayOptions, box: DeadLetters, stop: GracefulShutdown) -> None:
        self._settings = settings
        self._options = options
        self._box = box
        self._stop = stop
        self._decode = message_decoder(settings)
        self._letter_ids = array("q")
        self._tally = ReplayTally()
        self._database_error: DatabaseError | None = None
        self.selected = False

    @property
    def remaining(self) -> int:
        """Letters that were due and were not attempted."""
        return len(self._letter_ids) - self._tally.attempted

    def _select_letters(self) -> None:
        criteria = replace(self._options.criteria, state="parked")
        due = time.time() if self._options.due_only else None
        self._letter_ids = self._box.ids(criteria, due=due)[: self._options.max_letters]
        self.selected = True

    async def replay(self) -> None:
        """Replay the letters, in as many threads as `subscribe` has writers."""
        if self._stop.requested:  # while another replay held the lock
            return
        await asyncio.to_thread(self._select_letters)
        if not self._letter_ids:
            return
        letters, pipeline = self._settings.dead_letters, self._settings.pipeline
        replay = Replay(
            self._box,
            self._letter_ids,
            RetryPolicy(letters.max_attempts, letters.backoff_min, letters.backoff_max),
            batch_size=pipeline.batch_size,
            batch_bytes=pipeline.queue_bytes,
            rate=self._options.rate,
            report_every=pipeline.status_interval,
        )
        self._tally = replay.tally
        with closing(open_store(self._settings.database, self._settings.target_tables)) as store:
            with database_errors():
                await asyncio.to_thread(store.check_schema)
            stopping = asyncio.ensure_future(_stop_replay_on_signal(self._stop, replay))
            try:
                writers = min(pipeline.workers, -(-len(self._letter_ids) // pipeline.batch_size))
                working = (self._run_writer(replay, store, number) for number in range(writers))
                ended = await asyncio.gather(*working, return_exceptions=True)
            finally:
                stopping.cancel()
        self._database_error = _database_error_from([error for error in ended if error is not None])
        if self._tally.stored:
            await asyncio.to_thread(self._box.compact)

    async def _run_writer(self, replay: Replay, store: Store, number: int) -> None:
        pipeline = self._settings.pipeline
        writer = BatchWriter(
            number,
            store.create_sink(number),
            NullDeadLetterQueue(),
            self._decode,
            backoff=Backoff(pipeline.backoff_min, pipeline.backoff_max),
            pause=replay.wait_before_retry,
            breaker=RejectionBreaker(sys.maxsize),  # never opens: a refused letter stays in the box, whatever the cause
        )
        try:
            await asyncio.to_thread(replay.run_worker, writer)
        finally:
            writer.close()

    def count_decodable(self) -> None:
        """Count the letters that can be decoded. It is not known then if the database would accept them."""
        self._select_letters()
        size = self._settings.pipeline.batch_size
        for place in range(0, len(self._letter_ids), size):
            if self._stop.requested:
                return
            deliveries = self._box.read_batch(self._letter_ids[place : place + size], sys.maxsize).deliveries
            parts = decode_batch(deliveries, self._decode)
            again = [letter for part in parts for letter in part.dead_letters(deliveries).values()]
            self._tally.rejected += len(again)
            self._tally.stored += len(deliveries) - len(again)
            self._tally.reasons.update(letter.reason for letter in again)

    def result(self, stop_reason: str | None, seconds: float) -> CommandResult:
        """Return the result of the command.

        `stop_reason` is the signal that stopped it, if letters are left because of that.
        """
        tally = self._tally
        data = {
            "path": str(self._box.path),
            "dry_run": self._options.dry_run,
            "due": len(self._letter_ids),
            "stored": tally.stored,
            "redelivered": tally.redelivered_rows,
            "refused": tally.rejected,
            "refused_by_reason": dict(tally.reasons.most_common()),
            "quarantined": tally.quarantined,
            "left": self.remaining,
            "stopped_by": stop_reason,
            "seconds": round(seconds, 3),
        }
        problems = tuple(self._problems(stop_reason))
        code = ExitCode.DATABASE if self._database_error else ExitCode.INCOMPLETE if problems else ExitCode.OK
        return CommandResult(COMMAND, data, code, problems)

    def _problems(self, stop_reason: str | None) -> Iterator[Problem]:
        tally = self._tally
        if self._database_error is not None:
            yield Problem.from_error(self._database_error)
        if stop_reason is not None:
            yield Problem(InterruptedByUser.code, f"stopped by {stop_reason}; what is left is as it was")
        if tally.rejected:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in tally.reasons.most_common())
            again = "would be refused" if self._options.dry_run else "were refused again"
            given_up = f"; {tally.quarantined:,} are quarantined now" if tally.quarantined else ""
            hint = (
                "`sensorsync dlq inspect` says why; quarantined letters are left alone until `sensorsync dlq release`"
            )
            yield Problem(IncompleteError.code, f"{tally.rejected:,} letters {again} ({reasons}){given_up}", hint)


async def _stop_replay_on_signal(stop: GracefulShutdown, replay: Replay) -> None:
    await stop.wait()
    replay.stop()


def _database_error_from(errors: Iterable[BaseException]) -> DatabaseError | None:
    """Return the error of the database that ended the replay early, or None. Any other error is raised."""
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
