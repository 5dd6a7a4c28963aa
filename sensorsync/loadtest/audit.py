"""The audit of a run, which compares its rows and its local dead letters with the published messages."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import closing

from sensorsync.config import Settings
from sensorsync.deadletters import DeadLetters
from sensorsync.errors import DeadLetterBoxError, IncompleteError, Problem
from sensorsync.loadtest import AuditReport, AuditTally, Run
from sensorsync.messages.reading import Rejected
from sensorsync.storage.store import Store
from sensorsync.wiring import envelope_without_signature_check

logger = logging.getLogger(__name__)

STALL_SECONDS = 30.0
"""Seconds without a new row after which no more rows are expected."""
_POLL_SECONDS = 0.25
_POLL_FACTOR = 4


def audit(store: Store, settings: Settings, run_id: str, run: Run | None = None) -> AuditReport:
    """Read the rows of a run and return its audit; `run` is given when its size is known.

    A million rows take some seconds and one megabyte. Raises SinkUnavailable and SinkMisconfigured.
    """
    tally = AuditTally(run_id, run)
    for row in store.rows_of_run(run_id):
        tally.add_row(row.device_id, row.event_id, row.metric, row.value, row.payload)
    _add_dead_letters(tally, settings)
    return tally.report()


async def wait_for_rows(
    store: Store, run_id: str, expected: int, on_count: Callable[[int], None], *, stall_seconds: float = STALL_SECONDS
) -> int:
    """Wait until a run has `expected` rows, or got none for `stall_seconds` seconds; return the number of its rows.

    `on_count` is called with the count whenever it is read. Raises SinkUnavailable and SinkMisconfigured.
    """
    best, since = -1, time.monotonic()
    while True:
        began = time.monotonic()
        count = await asyncio.to_thread(store.count_run_rows, run_id)
        now = time.monotonic()
        on_count(count)
        if count > best:
            best, since = count, now
        if count >= expected or now - since >= stall_seconds:
            return count
        await asyncio.sleep(
            max(_POLL_SECONDS, _POLL_FACTOR * (now - began))
        )  # counting must not slow down what it waits for


def audit_problem(report: AuditReport) -> Problem:
    """Return the problem of an incomplete run, for the result of a command."""
    if report.missing is None:
        words = f"no message of run {report.run} is stored"
    else:
        words = f"{report.missing:,} of {report.messages or 0:,} messages of run {report.run} are missing"
    if report.corrupt:
        words += f", {report.corrupt:,} rows are corrupt"
    return Problem(IncompleteError.code, words, report.likely_cause)


def _add_dead_letters(tally: AuditTally, settings: Settings) -> None:
    path = settings.dead_letter_path
    if not path.exists():
        return
    opened = envelope_without_signature_check(settings.security).verify_and_decrypt
    box = DeadLetters(path, max_size=settings.dead_letters.max_size)
    try:
        if not box.open_read_only():
            return
        with closing(box):
            for letter in box.letters():
                payload = opened(letter.payload)
                if not isinstance(payload, Rejected):
                    tally.add_dead_letter(payload)
    except DeadLetterBoxError as error:
        logger.warning("the audit skips the dead-letter box: %s", error, extra={"event": "box_unreadable"})
