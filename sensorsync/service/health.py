"""What `subscribe` serves at `metrics.listen`: the board of its processes, and watches over its database and its dead-letter box."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Never

from sensorsync.config import Settings
from sensorsync.deadletters import DeadLetters
from sensorsync.runtime.shutdown import SoftStop
from sensorsync.service.metrics.board import Board
from sensorsync.service.metrics.definitions import Values, labelled, single
from sensorsync.service.metrics.picture import Picture
from sensorsync.service.metrics.watch import Watch
from sensorsync.storage.open import open_store
from sensorsync.storage.store import Store

logger = logging.getLogger(__name__)

REPORT_SECONDS = 1.0
"""How often a process reports its numbers."""


@asynccontextmanager
async def monitored(settings: Settings) -> AsyncIterator[Board | None]:
    """Serve for as long as the block lasts; None, and nothing is served, without `metrics.listen`.

    ConfigurationError when nothing can listen there.
    """
    if settings.metrics.listen is None:
        yield None
        return
    from sensorsync.service.metrics.server import serving  # noqa: PLC0415 - with Prometheus's library, which nobody else needs

    interval = settings.metrics.check_interval
    board = Board(settings.pipeline.processes)
    store = open_store(settings.database, settings.own_tables)
    database = Watch(
        "database", lambda: _look_at_database(store, board, interval), interval=interval, close=store.close
    )
    box = _Box(settings)
    letters = Watch("dead_letters", box.look, interval=interval, close=box.close)
    board.watches = [database, letters]
    async with serving(settings.metrics.listen, board):
        with database, letters:
            yield board


async def reporting(report: Callable[[], None]) -> Never:
    """Call `report` again and again, until this is cancelled."""
    while True:
        report()
        await asyncio.sleep(REPORT_SECONDS)


def reporter(board: Board | None, process: int, stop: SoftStop, picture: Callable[[], Picture]) -> Callable[[], None]:
    """What reports the numbers of this process: to the board, or to the supervisor that has it, by a line of the log."""

    def report() -> None:
        if board is None:
            logger.info("metrics", extra={"event": "metrics", "picture": picture()})
        else:
            board.heard(process, picture())

    if board is not None:
        board.refresh = report
        board.stopping = lambda: stop.asked
    return report


def _look_at_database(store: Store, board: Board, interval: float) -> Values:
    """A commit is the best proof that rows can be written; only a pipeline that has none is asked."""
    if time.time() - board.last_commit > interval:
        store.check_writable()
    return {}


class _Box:
    """The dead-letter box, seen through a connection of our own: the writers' is theirs."""

    def __init__(self, settings: Settings) -> None:
        self._box = DeadLetters.of(settings)
        self._max_size = settings.dead_letters.max_size
        self._is_open = False

    def look(self) -> Values:
        """Count the letters and commit nothing. Raises BoxUnavailable or DeadLetterBoxError."""
        if not self._is_open:
            self._box.open()
            self._is_open = True
        self._box.park([])
        letters = {"parked": 0, "quarantined": 0}
        for count in self._box.counts():
            letters[count.state] += count.letters
        values: Values = {
            "sensorsync_dead_letters": labelled(letters),
            "sensorsync_dead_letter_box_bytes": single(self._box.path.stat().st_size),
            "sensorsync_dead_letter_box_max_bytes": single(self._max_size),
        }
        for oldest in self._box.letters(limit=1, payload_bytes=0, oldest_first=True):
            values["sensorsync_dead_letter_oldest_timestamp_seconds"] = single(oldest.first_seen)
        return values

    def close(self) -> None:
        """Close it."""
        self._box.close()
