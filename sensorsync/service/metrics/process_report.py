"""The report of one process: its metrics and its failing checks, as plain JSON, which a child sends to its supervisor."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, TypedDict

from sensorsync.pipeline.counters import ConnectionPoolCounters, Histogram, PipelineCounters, RetryCause
from sensorsync.service.metrics.definitions import Series, Values, labelled_series, unlabelled_series

_CHECK_BY_CAUSE: Final[Mapping[RetryCause, str]] = {
    RetryCause.DATABASE: "database",
    RetryCause.LOCK: "database",
    RetryCause.CONFIGURATION: "database",
    RetryCause.SUSPECT: "database",
    RetryCause.REFUSALS: "refusals",
    RetryCause.DEAD_LETTERS: "dead_letters",
}
_UNLIMITED_WINDOW: Final = 65535


class ProcessReport(TypedDict):
    """The metrics and failing checks of one process at one moment."""

    pid: int
    values: Values
    failing: dict[str, str]
    """Check -> a description of the problem, for the failing checks."""


def process_report(
    counters: PipelineCounters, pool_counters: ConnectionPoolCounters | None, now: float, *, stall_after: float
) -> ProcessReport:
    """Return the report at `now`, in seconds on the event loop's clock. For the event loop's thread.

    A message that waits for longer than `stall_after` seconds fails the check `stall`.
    """
    oldest = counters.oldest_arrival()
    age = 0.0 if oldest is None else max(0.0, now - oldest)
    return {
        "pid": os.getpid(),
        "values": _values(counters, pool_counters, age),
        "failing": _failing_checks(counters, age, stall_after),
    }


def _failing_checks(counters: PipelineCounters, age: float, stall_after: float) -> dict[str, str]:
    failing: dict[str, str] = {}
    if counters.links == 0:
        failing["broker"] = "no connection to the broker"
    for writer in list(counters.writers):
        if (waits := writer.blocked_by) is not None:
            failing[_CHECK_BY_CAUSE[waits[0]]] = waits[1]
    if age > stall_after:
        failing["stall"] = f"a message has waited for {age:.0f}s"
    return failing


def _values(counters: PipelineCounters, pool_counters: ConnectionPoolCounters | None, age: float) -> Values:
    writers = list(counters.writers)
    retries: Counter[tuple[str, str]] = Counter()
    for writer in writers:
        retries.update(dict(writer.retries_by_cause))  # a copy, because the writer's thread continues to count
    values: Values = {
        "sensorsync_messages_received_total": unlabelled_series(counters.received),
        "sensorsync_messages_resent_total": unlabelled_series(counters.resends),
        "sensorsync_rows_stored_total": unlabelled_series(counters.rows_stored),
        "sensorsync_rows_redelivered_total": unlabelled_series(counters.redelivered_rows),
        "sensorsync_messages_parked_total": labelled_series(counters.parked_by_reason),
        "sensorsync_batches_total": labelled_series({str(reason): count for reason, count in counters.flushes.items()}),
        "sensorsync_batches_kept_total": [([str(cause), errno], [count]) for (cause, errno), count in retries.items()],
        "sensorsync_batch_size_messages": _sum_histograms([counters.batch_sizes]),
        "sensorsync_batch_duration_seconds": _sum_histograms(writer.batch_seconds for writer in writers),
        "sensorsync_commit_duration_seconds": _sum_histograms(writer.commit_seconds for writer in writers),
        "sensorsync_received_to_stored_seconds": _sum_histograms([counters.received_to_stored_seconds]),
        "sensorsync_event_to_stored_seconds": _sum_histograms(writer.event_age_seconds for writer in writers),
        "sensorsync_last_commit_timestamp_seconds": unlabelled_series(
            max((one.last_commit for one in writers), default=0.0)
        ),
        "sensorsync_queue_messages": unlabelled_series(counters.queue_depth),
        "sensorsync_queue_bytes": unlabelled_series(counters.queue_bytes),
        "sensorsync_oldest_unacknowledged_seconds": unlabelled_series(age),
        "sensorsync_reading_paused": unlabelled_series(counters.reading_paused),
        "sensorsync_reading_pauses_total": unlabelled_series(counters.reading_pauses),
        "sensorsync_writers_waiting": unlabelled_series(sum(writer.blocked_by is not None for writer in writers)),
        "sensorsync_broker_links": unlabelled_series(counters.links),
        "sensorsync_link_in_flight_messages": labelled_series(
            {str(k): one.in_flight for k, one in counters.ledgers.items()}
        ),
        "sensorsync_broker_reconnects_total": unlabelled_series(counters.reconnects),
        "sensorsync_sessions_lost_total": unlabelled_series(counters.sessions_lost),
    }
    if counters.window_estimate is not None and counters.window_estimate.window < _UNLIMITED_WINDOW:
        values["sensorsync_window_messages"] = unlabelled_series(counters.window_estimate.window)
    if pool_counters is not None:
        values |= {
            "sensorsync_database_connections_in_use": unlabelled_series(pool_counters.in_use),
            "sensorsync_database_pool_size_connections": unlabelled_series(pool_counters.size),
            "sensorsync_database_connections_opened_total": unlabelled_series(pool_counters.opened),
            "sensorsync_database_connections_discarded_total": unlabelled_series(pool_counters.discarded),
            "sensorsync_database_pool_waits_total": unlabelled_series(pool_counters.waits),
        }
    return values


def _sum_histograms(histograms: Iterable[Histogram]) -> Series:
    """Return the sum of several histograms with the same buckets; no series when there is no histogram."""
    summed = [histogram.sum_and_counts() for histogram in histograms]
    return [([], [sum(numbers) for numbers in zip(*summed, strict=True)])] if summed else []
