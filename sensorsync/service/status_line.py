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
    """What a status line is made of: the counts of this process, or of all."""

    @property
    def rows_since_report(self) -> int:
        """Landed since the last report."""
        ...

    def take_interval_snapshot(self, now: float) -> Snapshot:
        """A picture; the interval begins anew."""
        ...


class StatusLine:
    """The `[STATUS]` log line: every so many stored rows, and every so many seconds."""

    def __init__(
        self, counters: IntervalSnapshotSource, settings: Settings, running_processes: Callable[[], int] | None = None
    ) -> None:
        self._counters = counters
        self._pipeline = settings.pipeline
        self._running_processes = running_processes
        self._loop = asyncio.get_running_loop()
        self._next_report = self._loop.time() + self._pipeline.status_interval

    def on_batch_settled(self) -> None:
        """A batch was settled."""
        if self._counters.rows_since_report >= self._pipeline.status_every:
            self.report()

    async def report_periodically(self) -> None:
        """Report when nothing else did for the interval; runs until it is cancelled."""
        while True:
            left = self._next_report - self._loop.time()
            if left <= 0:
                self.report()
            else:
                await asyncio.sleep(left)

    def report(self) -> None:
        """Report now."""
        now = self._loop.time()
        self._next_report = now + self._pipeline.status_interval
        status = self._counters.take_interval_snapshot(now)
        pipeline = self._pipeline
        many = {} if self._running_processes is None else {"processes": self._running_processes()}
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
            f" | Processes: {many['processes']}/{pipeline.processes}" if many else "",
            extra={"event": "status", **asdict(status), **many},
        )
