"""The `[STATUS]` line of `subscribe`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

from sensorsync.config import Settings
from sensorsync.pipeline.counters import Snapshot

logger = logging.getLogger(__name__)


class IntervalSnapshotSource(Protocol):
    """The source of the status line: the counters of this process, or of all processes."""

    @property
    def rows_since_report(self) -> int:
        """Rows committed since the last report."""
        ...

    def take_interval_snapshot(self, now: float) -> Snapshot:
        """Return a snapshot, and start a new interval."""
        ...


class StatusLine:
    """The reporter of the `[STATUS]` log line, every `status_every` committed rows and every `status_interval` seconds."""

    def __init__(
        self, counters: IntervalSnapshotSource, settings: Settings, running_processes: Callable[[], int] | None = None
    ) -> None:
        self._counters = counters
        self._pipeline = settings.pipeline
        self._running_processes = running_processes
        self._loop = asyncio.get_running_loop()
        self._next_report = self._loop.time() + self._pipeline.status_interval

    def on_batch_settled(self) -> None:
        """Report if enough rows were committed since the last report. Call this after each settled batch."""
        if self._counters.rows_since_report >= self._pipeline.status_every:
            self.report()

    async def report_periodically(self) -> None:
        """Report whenever there was no other report for the interval, until this is cancelled."""
        while True:
            left = self._next_report - self._loop.time()
            if left <= 0:
                self.report()
            else:
                await asyncio.sleep(left)

    def report(self) -> None:
        """Log the status line now."""
        now = self._loop.time()
        self._next_report = now + self._pipeline.status_interval
        status = self._counters.take_interval_snapshot(now)
        pipeline = self._pipeline
        extra = {} if self._running_processes is None else {"processes": self._running_processes()}
        logger.info(
            "[STATUS] Workers: %d | Queue Depth: %s | Total Landed: %s | Avg Latency: %.0fms | Records/sec: %s"
            " | Progress: %s new | Batch: %d/%.0fms%s",
            pipeline.workers * (1 if self._running_processes is None else pipeline.processes),
            f"{status.queue_depth:,}",
            f"{status.landed:,}",
            status.latency * 1000,
            f"{status.rate:,.0f}",
            f"{status.new:,}",
            pipeline.batch_size,
            pipeline.batch_timeout * 1000,
            f" | Processes: {extra['processes']}/{pipeline.processes}" if extra else "",
            extra={"event": "status", **asdict(status), **extra},
        )
