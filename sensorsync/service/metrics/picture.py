"""The picture of one process: its numbers and what is wrong with it, as plain JSON, which a child sends to its supervisor."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, TypedDict

from sensorsync.pipeline.counters import Histogram, Kept, Meter, PoolMeter
from sensorsync.service.metrics.definitions import Series, Values, labelled, single

_CHECKS: Final[Mapping[Kept, str]] = {
    Kept.DATABASE: "database",
    Kept.LOCK: "database",
    Kept.CONFIGURATION: "database",
    Kept.REFUSALS: "refusals",
    Kept.DEAD_LETTERS: "dead_letters",
}
_UNBOUNDED: Final = 65535


class Picture(TypedDict):
    """One process at one moment."""

    pid: int
    values: Values
    failing: dict[str, str]
    """Check -> a sentence, for those of its checks that are not well."""


def picture_of(meter: Meter, pool: PoolMeter | None, now: float, *, stall_after: float) -> Picture:
    """What `meter` and `pool` say at `now`, on the event loop's clock; `stall_after` in seconds. For the event loop's thread."""
    oldest = meter.oldest()
    age = 0.0 if oldest is None else max(0.0, now - oldest)
    return {"pid": os.getpid(), "values": _values(meter, pool, age), "failing": _failing(meter, age, stall_after)}


def _failing(meter: Meter, age: float, stall_after: float) -> dict[str, str]:
    failing: dict[str, str] = {}
    if meter.links == 0:
        failing["broker"] = "no connection to the broker"
    for writer in list(meter.writers):
        if (waits := writer.waits_for) is not None:
            failing[_CHECKS[waits[0]]] = waits[1]
    if age > stall_after:
        failing["stall"] = f"a message has waited for {age:.0f}s"
    return failing


def _values(meter: Meter, pool: PoolMeter | None, age: float) -> Values:
    writers = list(meter.writers)
    kept: Counter[tuple[str, str]] = Counter()
    for writer in writers:
        kept.update(dict(writer.kept))  # a copy: its thread goes on counting
    values: Values = {
        "sensorsync_messages_received_total": single(meter.received),
        "sensorsync_messages_resent_total": single(meter.resends),
        "sensorsync_rows_stored_total": single(meter.landed),
        "sensorsync_rows_redelivered_total": single(meter.duplicates),
        "sensorsync_messages_parked_total": labelled(meter.parked_by_reason),
        "sensorsync_batches_total": labelled({str(reason): count for reason, count in meter.flushes.items()}),
        "sensorsync_batches_kept_total": [([str(cause), errno], [count]) for (cause, errno), count in kept.items()],
        "sensorsync_batch_size_messages": _summed([meter.batch_sizes]),
        "sensorsync_batch_duration_seconds": _summed(writer.batch_seconds for writer in writers),
        "sensorsync_commit_duration_seconds": _summed(writer.commit_seconds for writer in writers),
        "sensorsync_received_to_stored_seconds": _summed([meter.stored_seconds]),
        "sensorsync_event_to_stored_seconds": _summed(writer.event_seconds for writer in writers),
        "sensorsync_last_commit_timestamp_seconds": single(max((one.last_commit for one in writers), default=0.0)),
        "sensorsync_queue_messages": single(meter.queue_depth),
        "sensorsync_queue_bytes": single(meter.held_bytes),
        "sensorsync_oldest_unacknowledged_seconds": single(age),
        "sensorsync_reading_paused": single(meter.paused),
        "sensorsync_reading_pauses_total": single(meter.pauses),
        "sensorsync_writers_waiting": single(sum(writer.waits_for is not None for writer in writers)),
        "sensorsync_broker_links": single(meter.links),
        "sensorsync_link_in_flight_messages": labelled({str(k): one.in_flight for k, one in meter.ledgers.items()}),
        "sensorsync_broker_reconnects_total": single(meter.reconnects),
        "sensorsync_sessions_lost_total": single(meter.sessions_lost),
    }
    if meter.estimate is not None and meter.estimate.window < _UNBOUNDED:
        values["sensorsync_window_messages"] = single(meter.estimate.window)
    if pool is not None:
        values |= {
            "sensorsync_database_connections_in_use": single(pool.in_use),
            "sensorsync_database_pool_size_connections": single(pool.size),
            "sensorsync_database_connections_opened_total": single(pool.opened),
            "sensorsync_database_connections_discarded_total": single(pool.discarded),
            "sensorsync_database_pool_waits_total": single(pool.waits),
        }
    return values


def _summed(histograms: Iterable[Histogram]) -> Series:
    """One histogram of several with the same buckets; no series when there are none."""
    pictures = [histogram.picture() for histogram in histograms]
    return [([], [sum(numbers) for numbers in zip(*pictures, strict=True)])] if pictures else []
