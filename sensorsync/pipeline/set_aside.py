"""SetAside: the messages that a writer tries again beside its batches, until it is known whether they are at fault."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from sensorsync.pipeline.bisection import Bisection, Commit, DatabaseAway, RowOutcomes
from sensorsync.pipeline.contract import (
    BatchRejected,
    DeadLetter,
    Decoder,
    Delivery,
    Row,
    RowSuspected,
    SinkMisconfigured,
    SinkUnavailable,
    WriteReport,
)
from sensorsync.pipeline.counters import RetryCause, WriterCounters
from sensorsync.pipeline.decoded_batch import DecodedBatch, decode_batch
from sensorsync.pipeline.suspects import Suspect, Suspects

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 64
"""The number of messages that are tried again between two batches."""
_RACES: Final = 5
"""The number of tries of a transaction that loses races (deadlocks)."""
_REST: Final = 2.0
"""Tries rest for this many times the seconds that they took: the batches get two thirds of the writer's time at least."""


class SetAside:
    """The messages of one writer that are set aside.

    A message is decoded again for each try: what is kept of it is what the broker delivered, and its rows are upserts, so that those
    which are stored already stay as they are.
    """

    def __init__(
        self,
        number: int,
        suspects: Suspects,
        decode: Decoder,
        bisection: Bisection,
        *,
        counters: WriterCounters,
        clock: Callable[[], float],
    ) -> None:
        self._number = number
        self._suspects = suspects
        self._decode = decode
        self._bisection = bisection
        self._counters = counters
        self._clock = clock

    def __len__(self) -> int:
        return len(self._suspects)

    def due_in(self) -> float | None:
        """Return the seconds until a message has to be tried again; None when there is none."""
        return self._suspects.due_in(self._clock())

    def add(self, deliveries: Sequence[Delivery], suspected: Mapping[int, RowSuspected]) -> None:
        """Set the messages aside that `suspected` has an index of."""
        now = self._clock()
        for place, suspicion in suspected.items():
            self._counters.count_retry(RetryCause.SUSPECT, suspicion)
            accepted = suspicion.other_row_accepted
            self._suspects.add(deliveries[place], suspicion.errno, now, other_row_accepted=accepted)
        some = next(iter(suspected.values()))
        logger.warning(
            "[WORKER-%d] %d messages set aside, unacknowledged, and tried again; the others go on: %s",
            self._number,
            len(suspected),
            some,
            extra={"event": "set_aside", "worker": self._number, "messages": len(suspected), "errno": some.errno},
        )

    def retry(
        self, commit: Commit, park: Callable[[Mapping[int, DeadLetter]], None]
    ) -> tuple[list[Delivery], WriteReport]:
        """Try the messages that are due; return those that are stored or parked now, and the report on them."""
        started = self._clock()
        suspects = self._suspects.due(started, _AT_ONCE)
        deliveries = [suspect.delivery for suspect in suspects]
        rows = new = 0
        letters: dict[int, DeadLetter] = {}
        undecided: set[int] = set()
        for part in decode_batch(deliveries, self._decode):
            outcomes = self._bisection.store(part.rows, part.message_indices, partial(_commit_once, commit))
            refused = outcomes.rejected | self._judge(suspects, part, outcomes, undecided)
            letters |= part.dead_letters(deliveries, refused)
            rows += len(part.rows) - outcomes.failures
            new += outcomes.new
        letters = {place: letter for place, letter in letters.items() if place not in undecided}
        if letters:
            park(letters)
        settled = [place for place in range(len(suspects)) if place not in undecided]
        self._suspects.forget(suspects[place] for place in letters)
        for place in settled:
            if place not in letters:
                self._suspects.record_stored(suspects[place])
        now = self._clock()
        self._suspects.delay(_REST * (now - started), now)
        report = WriteReport(
            messages_stored=len(settled) - len(letters),
            rows_stored=rows if settled else 0,
            redelivered_rows=rows - min(new, rows) if settled else 0,
            rejected={settled.index(place): letter for place, letter in letters.items()},
            transactions=1,
        )
        return [deliveries[place] for place in settled], report

    def _judge(
        self, suspects: Sequence[Suspect], part: DecodedBatch, outcomes: RowOutcomes, undecided: set[int]
    ) -> dict[int, BatchRejected]:
        """Record the evidence of one try; return the rows that are at fault. Adds the messages to `undecided` that need more tries."""
        now = self._clock()
        suspected = suspicion_by_message(part, outcomes.suspected)
        away = {part.message_indices[row] for row in outcomes.unavailable}
        for place in away | suspected.keys():
            suspect, suspicion = suspects[place], suspected.get(place)
            if place in away or suspicion is None or not suspicion.other_row_accepted:
                self._suspects.record_outage(suspect, now)
                undecided.add(place)
            elif not self._suspects.record_refusal(suspect, suspicion.errno, now):
                undecided.add(place)
        return {
            row: _fault(suspicion, suspects[place], now)
            for row, suspicion in outcomes.suspected.items()
            if (place := part.message_indices[row]) not in undecided
        }


def _commit_once(commit: Commit, rows: Sequence[Row]) -> int:
    """Commit without waiting for the database; only a lost race is repeated, a few times."""
    for left in reversed(range(_RACES)):
        try:
            return commit(rows)
        except SinkMisconfigured as error:
            raise DatabaseAway(str(error)) from error
        except SinkUnavailable as error:
            if not left or not error.retry_immediately:
                raise DatabaseAway(str(error)) from error
    raise AssertionError("unreachable")


def suspicion_by_message(part: DecodedBatch, suspected: Mapping[int, RowSuspected]) -> dict[int, RowSuspected]:
    """Return one suspicion for each message: of several, one without evidence against its row, which then needs another try."""
    found: dict[int, RowSuspected] = {}
    for row, suspicion in suspected.items():
        place = part.message_indices[row]
        if place not in found or not suspicion.other_row_accepted:
            found[place] = suspicion
    return found


def _fault(suspicion: RowSuspected, suspect: Suspect, now: float) -> BatchRejected:
    return BatchRejected(
        f"{suspicion}; refused {suspect.refusals} times in {now - suspect.first_refusal:.0f} s, while other rows were accepted",
        errno=suspicion.errno,
    )
