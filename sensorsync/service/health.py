"""The metrics endpoint of `subscribe` at `metrics.listen`, with the health probes of its database and its dead-letter box."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Never

from sensorsync.config import Settings
from sensorsync.deadletters import DeadLetters
from sensorsync.runtime.shutdown import GracefulShutdown
from sensorsync.service.metrics.aggregator import MetricsAggregator
from sensorsync.service.metrics.definitions import Values, labelled_series, unlabelled_series
from sensorsync.service.metrics.health_probe import HealthProbe
from sensorsync.service.metrics.process_report import ProcessReport
from sensorsync.storage.open import open_store
from sensorsync.storage.store import Store

logger = logging.getLogger(__name__)

REPORT_INTERVAL = 1.0
"""Seconds between two reports of a process."""


@asynccontextmanager
async def metrics_endpoint(settings: Settings) -> AsyncIterator[MetricsAggregator | None]:
    """Serve metrics and health until the block ends, and yield their aggregator.

    Without `metrics.listen` it serves nothing and yields None. Raises ConfigurationError when the address cannot be used.
    """
    if settings.metrics.listen is None:
        yield None
        return
    from sensorsync.service.metrics.server import metrics_server  # noqa: PLC0415 - it imports prometheus_client, used only here

    interval = settings.metrics.check_interval
    aggregator = MetricsAggregator(settings.pipeline.processes)
    store = open_store(settings.database, settings.target_tables)
    database = HealthProbe(
        "database", lambda: _check_database(store, aggregator, interval), interval=interval, close=store.close
    )
    box = _DeadLetterBoxProbe(settings)
    letters = HealthProbe("dead_letters", box.check, interval=interval, close=box.close)
    aggregator.probes = [database, letters]
    async with metrics_server(settings.metrics.listen, aggregator):
        with database, letters:
            yield aggregator


async def report_periodically(report: Callable[[], None]) -> Never:
    """Call `report` every `REPORT_INTERVAL` until this is cancelled."""
    while True:
        report()
        await asyncio.sleep(REPORT_INTERVAL)


def make_reporter(
    aggregator: MetricsAggregator | None,
    process: int,
    stop: GracefulShutdown,
    create_report: Callable[[], ProcessReport],
) -> Callable[[], None]:
    """Return a function that reports the metrics of this process.

    It reports to `aggregator`, or without one, by a line of the log, to the supervisor that has it.
    """

    def report() -> None:
        if aggregator is None:
            logger.info("metrics", extra={"event": "metrics", "picture": create_report()})
        else:
            aggregator.update(process, create_report())

    if aggregator is not None:
        aggregator.request_report = report
        aggregator.is_stopping = lambda: stop.requested
    return report


def _check_database(store: Store, aggregator: MetricsAggregator, interval: float) -> Values:
    """Check that rows can be written, and return no values.

    A recent commit is the best proof of it. The database is queried only when there was none within `interval` seconds.
    """
    if time.time() - aggregator.last_commit > interval:
        store.check_writable()
    return {}


class _DeadLetterBoxProbe:
    """The check of the dead-letter box. It has its own connection, separate from that of the writers."""

    def __init__(self, settings: Settings) -> None:
        self._box = DeadLetters.from_settings(settings)
        self._max_size = settings.dead_letters.max_size
        self._is_open = False

    def check(self) -> Values:
        """Count the letters and commit an empty transaction. Raises DeadLetterBoxUnavailable or DeadLetterBoxError."""
        if not self._is_open:
            self._box.open()
            self._is_open = True
        self._box.park([])
        letters = {"parked": 0, "quarantined": 0}
        for count in self._box.reason_counts():
            letters[count.state] += count.letters
        values: Values = {
            "sensorsync_dead_letters": labelled_series(letters),
            "sensorsync_dead_letter_box_bytes": unlabelled_series(self._box.path.stat().st_size),
            "sensorsync_dead_letter_box_max_bytes": unlabelled_series(self._max_size),
        }
        for oldest in self._box.letters(limit=1, payload_bytes=0, oldest_first=True):
            values["sensorsync_dead_letter_oldest_timestamp_seconds"] = unlabelled_series(oldest.first_seen)
        return values

    def close(self) -> None:
        """Close the connection."""
        self._box.close()
