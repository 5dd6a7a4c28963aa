"""The live status of the pipeline, refreshed several times a second for a person who watches it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Never, Protocol

from sensorsync.config import Settings
from sensorsync.deadletters import DeadLetters
from sensorsync.errors import DeadLetterBoxError
from sensorsync.mqtt.subscriber.window import required_in_flight
from sensorsync.pipeline.counters import Snapshot

REFRESH_INTERVAL = 0.25
_DEAD_LETTER_COUNT_INTERVAL = 5.0
"""Seconds between two counts of the dead letters. Each count is a query."""


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """The status of the pipeline at one moment."""

    snapshot: Snapshot
    """The snapshot of all processes together."""
    dead_letters: int | None = None
    """The number of letters in the dead-letter box, those of earlier runs included; None when they cannot be counted."""
    max_in_flight: int = 0
    """The limit of unacknowledged messages: the broker's, or the number that the pipeline requests if that is lower."""
    processes: Mapping[int, Snapshot | None] = field(default_factory=dict)
    """The latest snapshot of each process when there are several; None for a process that does not run."""


class SnapshotSource(Protocol):
    """The source of the live status: a `PipelineCounters`, or the `ProcessTotals` of several processes."""

    def snapshot(self, now: float) -> Snapshot:
        """Return a snapshot of the counters, without starting a new interval."""
        ...


ShowLiveStatus = Callable[[LiveStatus], None]


async def refresh_live_status(
    settings: Settings,
    counters: SnapshotSource,
    show: ShowLiveStatus,
    running_processes: Callable[[], Mapping[int, Snapshot]] | None = None,
) -> Never:
    """Call `show` with a new status every `REFRESH_INTERVAL` seconds until this is cancelled.

    `running_processes` returns the latest snapshots of the processes that run, by number.
    """
    loop = asyncio.get_running_loop()
    pipeline = settings.pipeline
    demand = pipeline.processes * required_in_flight(pipeline.workers, pipeline.batch_size)
    letters, due = None, loop.time()
    while True:
        if loop.time() >= due:
            letters = await asyncio.to_thread(_count_dead_letters, settings)
            due = loop.time() + _DEAD_LETTER_COUNT_INTERVAL
        status = counters.snapshot(loop.time())
        reports = running_processes() if running_processes is not None else None
        processes = {} if reports is None else {number: reports.get(number) for number in range(pipeline.processes)}
        show(LiveStatus(status, letters, min(status.window, demand), processes))
        await asyncio.sleep(REFRESH_INTERVAL)


def _count_dead_letters(settings: Settings) -> int | None:
    """Return the number of letters in the box; None when it cannot be read. The processes that write to it report that."""
    with closing(DeadLetters.from_settings(settings)) as box:
        try:
            return sum(count.letters for count in box.reason_counts()) if box.open_read_only() else 0
        except DeadLetterBoxError:
            return None
