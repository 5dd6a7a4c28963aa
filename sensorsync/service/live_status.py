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
from sensorsync.mqtt.subscriber.window import demand_of
from sensorsync.pipeline.counters import Status

PICTURE_SECONDS = 0.25
_BOX_SECONDS = 5.0
"""How often the dead letters are counted: that is a query."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One moment."""

    status: Status
    """Of all processes together."""
    letters: int | None = None
    """Letters in the dead-letter box, from whenever they are; None when they cannot be counted."""
    room: int = 0
    """Messages that may be on their way unacknowledged: what the broker allows, or what we ask for if that is less."""
    processes: Mapping[int, Status | None] = field(default_factory=dict)
    """What each process reported last, when there are several; None for one that does not run."""


class Counts(Protocol):
    """What is watched: a Meter, or the Totals of several processes."""

    def status(self, now: float) -> Status:
        """A picture; it changes nothing."""
        ...


Show = Callable[[Picture], None]


async def watch(
    settings: Settings, counts: Counts, show: Show, running: Callable[[], Mapping[int, Status]] | None = None
) -> Never:
    """Call `show` with a new picture again and again, until it is cancelled; `running`: the processes that run, by number."""
    loop = asyncio.get_running_loop()
    pipeline = settings.pipeline
    demand = pipeline.processes * demand_of(pipeline.workers, pipeline.batch_size)
    letters, due = None, loop.time()
    while True:
        if loop.time() >= due:
            letters = await asyncio.to_thread(_letters, settings)
            due = loop.time() + _BOX_SECONDS
        status = counts.status(loop.time())
        reports = running() if running is not None else None
        processes = {} if reports is None else {number: reports.get(number) for number in range(pipeline.processes)}
        show(Picture(status, letters, min(status.window, demand), processes))
        await asyncio.sleep(PICTURE_SECONDS)


def _letters(settings: Settings) -> int | None:
    """How many letters the box holds; None when it cannot be read, which is for those to report who write into it."""
    with closing(DeadLetters.of(settings)) as box:
        try:
            return sum(count.letters for count in box.counts()) if box.open_read_only() else 0
        except DeadLetterBoxError:
            return None
