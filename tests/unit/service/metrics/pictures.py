"""Pictures of processes that never ran."""

from __future__ import annotations

from sensorsync.pipeline.counters import Meter, PoolMeter
from sensorsync.service.metrics.picture import Picture, picture_of


def meter(messages: int = 0, *, links: int = 1) -> Meter:
    """One that has received and stored so many messages, in one batch, within 30 ms."""
    made = Meter(0.0)
    made.links = links
    if messages:
        made.received += messages
        made.flushes["full"] += 1
        made.batch(
            stored=messages, rows=messages, duplicates=0, parked={}, attempts=1, arrivals=[(messages, 9.97)], now=10.0
        )
        made.writer().committed(0.02, "2026-01-01 00:00:00.000000")
    return made


def picture(messages: int = 0, *, links: int = 1) -> Picture:
    """A healthy process with a pool."""
    return picture_of(meter(messages, links=links), PoolMeter(20), 11.0, stall_after=60.0)
