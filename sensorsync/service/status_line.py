"""The `[STATUS]` line of `subscribe`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

from sensorsync.config import Settings
from sensorsync.pipeline.counters import Status

logger = logging.getLogger(__name__)


class Counts(Protocol):
    """What a status line is made of: the counts of this process, or of all."""

    @property
    def new(self) -> int:
        """Landed since the last report."""
        ...

    def report(self, now: float) -> Status:
        """A picture; the interval begins anew."""
        ...


class StatusLine:
    """The `[STATUS]` log line: every so many stored rows, and every so many seconds."""

    def __init__(self, counts: Counts, settings: Settings, running: Callable[[], int] | None = None) -> None:
        self._counts = counts
        self._pipeline = settings.pipeline
        self._running = running
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + self._pipeline.status_interval

    def landed(self) -> None:
        """A batch was settled."""
        if self._counts.new >= self._pipeline.status_every:
            self.report()

    async def tick(self) -> None:
        """Report when nothing else did for the interval; runs until it is cancelled."""
        while True:
            left = self._due - self._loop.time()
            if left <= 0:
                self.report()
            else:
                await asyncio.sleep(left)

    def report(self) -> None:
        """Report now."""
        now = self._loop.time()
        self._due = now + self._pipeline.status_interval
        status = self._counts.report(now)
        pipeline = self._pipeline
        many = {} if self._running is None else {"processes": self._running()}
        logger.info(
            "[STATUS] Workers: %d | Queue Depth: %s | Total Landed: %s | Avg Latency: %.0fms | Records/sec: %s"
            " | Progress: %s new | Batch: %d/%.0fms%s",
            pipeline.workers * (1 if self._running is None else pipeline.processes),
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
