"""How the pipeline does, several times a second, for a person who watches."""

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
"""How often the dead letters are counted: that is a query."""


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """One moment."""

    snapshot: Snapshot
    """Of all processes together."""
    dead_letters: int | None = None
    """Letters in the dead-letter box, from whenever they are; None when they cannot be counted."""
    max_in_flight: int = 0
    """Messages that may be on their way unacknowledged: what the broker allows, or what we ask for if that is less."""
    processes: Mapping[int, Snapshot | None] = field(default_factory=dict)
    """What each process reported last, when there are several; None for one that does not run."""


class SnapshotSource(Protocol):
    """What is watched: a Meter, or the Totals of several processes."""

    def snapshot(self, now: float) -> Snapshot:
        """A picture; it changes nothing."""
        ...


ShowLiveStatus = Callable[[LiveStatus], None]


async def refresh_live_status(
    settings: Settings,
    counters: SnapshotSource,
    show: ShowLiveStatus,
    running_processes: Callable[[], Mapping[int, Snapshot]] | None = None,
) -> Never:
    """Call `show` with a new picture again and again, until it is cancelled; `running`: the processes that run, by number."""
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
    """How many letters the box holds; None when it cannot be read, which is for those to report who write into it."""
    with closing(DeadLetters.from_settings(settings)) as box:
        try:
            return sum(count.letters for count in box.reason_counts()) if box.open_read_only() else 0
        except DeadLetterBoxError:
            return None
