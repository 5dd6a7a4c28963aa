"""The definitions of all metrics. The collector, the documentation and the tests of alerts and dashboard read this table.

Names follow Prometheus's conventions (prometheus.io/docs/practices/naming): base units in the name, `_total` for counters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sensorsync.messages.reading import REJECTION_REASONS
from sensorsync.pipeline.contract import FlushReason
from sensorsync.pipeline.counters import AGE_BUCKETS, BATCH_SIZE_BUCKETS, DURATION_BUCKETS

Series = list[tuple[list[str], list[float]]]
"""(label values in order, a list of one number). Of a histogram, the list has the sum, then the bucket counts, not cumulated."""
Values = dict[str, Series]
"""Metric name -> its series."""


def unlabelled_series(number: float) -> Series:
    """Return the series of a metric without labels."""
    return [([], [number])]


def labelled_series(numbers: Mapping[str, float]) -> Series:
    """Return the series of a metric with one label, from its numbers by label value."""
    return [([label], [number]) for label, number in numbers.items()]


class MetricKind(StrEnum):
    """A type of Prometheus's data model."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(StrEnum):
    """The way in which the values of several processes are merged."""

    SUM = "sum"
    """The sum over all processes, ended ones included."""
    MAX = "max"
    """The largest value."""
    PROCESS = "process"
    """One series for each process that runs, with the label `process`."""
    INSTANCE = "instance"
    """One value for the whole instance, known to the process that serves the metrics."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    `labels` are those in addition to `process`. `initial_label_values` are the values of its only label whose series exist from the
    start, as 0.
    """

    name: str
    kind: MetricKind
    merge: Merge
    help: str
    labels: tuple[str, ...] = ()
    initial_label_values: tuple[str, ...] = ()
    buckets: Sequence[float] = ()

    @property
    def all_labels(self) -> tuple[str, ...]:
        """The labels as they are exposed."""
        return ("process", *self.labels) if self.merge is Merge.PROCESS else self.labels

    @property
    def series(self) -> tuple[str, ...]:
        """The names that a query may use."""
        if self.kind is MetricKind.HISTOGRAM:
            return tuple(self.name + suffix for suffix in ("_bucket", "_sum", "_count"))
        return (self.name,)


def _counter(
    name: str,
    text: str,
    labels: tuple[str, ...] = (),
    initial_label_values: Sequence[str] = (),
    merge: Merge = Merge.SUM,
) -> Metric:
    return Metric(f"sensorsync_{name}_total", MetricKind.COUNTER, merge, text, labels, tuple(initial_label_values))


def _histogram(name: str, text: str, buckets: Sequence[float]) -> Metric:
    return Metric(f"sensorsync_{name}", MetricKind.HISTOGRAM, Merge.SUM, text, buckets=buckets)


def _gauge(name: str, text: str, labels: tuple[str, ...] = (), merge: Merge = Merge.PROCESS) -> Metric:
    return Metric(f"sensorsync_{name}", MetricKind.GAUGE, merge, text, labels)


CHECKS: Final[Mapping[str, str]] = {
    "processes": "every process runs and has reported within the last 10 seconds, and none is stopping",
    "broker": "each process has at least one connection to the broker",
    "database": "no writer waits for the database; it took a commit within `metrics.check_interval`, or a write of no rows since",
    "dead_letters": "no writer waits for the dead-letter box, and it took an empty transaction",
    "stall": "no message has waited longer than `metrics.stall_after` to be stored or parked",
    "refusals": "the database does not refuse every reading",
}
"""Check of /readyz -> the condition under which it passes."""

_METRICS: Final = (
    _counter("messages_received", "Messages taken over from the broker, redeliveries included."),
    _counter("messages_resent", "Copies of a message still in work, sent again by the broker and dropped."),
    _counter(
        "rows_stored",
        "Rows committed, those of redeliveries included: one a message, unless a mapping makes several of it.",
    ),
    _counter("rows_redelivered", "Of these, the ones that were there before."),
    _counter(
        "messages_parked",
        "Messages put into the dead-letter box.",
        ("reason",),
        (*REJECTION_REASONS, "mqtt", "internal", "database"),
    ),
    _counter(
        "batches", "Batches by the reason why they left the batcher.", ("reason",), [str(one) for one in FlushReason]
    ),
    _counter("batches_kept", "How often a batch was kept to be tried again.", ("cause", "errno")),
    _histogram("batch_size_messages", "Messages in a batch.", BATCH_SIZE_BUCKETS),
    _histogram(
        "batch_duration_seconds",
        "Time of a batch with its writer: decode, write, park, and every wait.",
        DURATION_BUCKETS,
    ),
    _histogram("commit_duration_seconds", "Time of a transaction that was committed.", DURATION_BUCKETS),
    _histogram("received_to_stored_seconds", "From arrival to stored or parked, of every message.", DURATION_BUCKETS),
    _histogram(
        "event_to_stored_seconds",
        "From the reading's `ts` to its commit, of one reading of each transaction.",
        AGE_BUCKETS,
    ),
    _gauge("last_commit_timestamp_seconds", "Unix time of the latest commit, 0 before the first.", merge=Merge.MAX),
    _gauge("queue_messages", "Messages received and not yet stored or parked."),
    _gauge("queue_bytes", "Bytes of their payloads and topics."),
    _gauge("oldest_unacknowledged_seconds", "How long the oldest of them has waited, 0 when there is none."),
    _gauge("reading_paused", "1 while the sockets are left alone, because too much is in memory."),
    _counter("reading_pauses", "How often reading was paused."),
    _gauge("writers_waiting", "Writers that keep a batch and wait to try it again."),
    _gauge("broker_links", "Connections to the broker that are up."),
    _gauge("link_in_flight_messages", "Messages of one connection that are not acknowledged.", ("link",)),
    _gauge("window_messages", "Estimate of the broker's delivery window; absent while the broker names none."),
    _counter("broker_reconnects", "Connections to the broker that were made again after a loss."),
    _counter("sessions_lost", "Reconnects at which the broker had lost our session, and perhaps messages with it."),
    _gauge("database_connections_in_use", "Connections that writers have checked out of the pool."),
    _gauge("database_pool_size_connections", "Connections that the pool may have (`database.pool_size`)."),
    _counter("database_connections_opened", "Connections to the database that were opened for the pool."),
    _counter("database_connections_discarded", "Connections found dead, or given up after an error (zombies)."),
    _counter("database_pool_waits", "How often a writer found the pool exhausted."),
    _gauge("dead_letters", "Letters in the dead-letter box, parked or quarantined.", ("state",), Merge.INSTANCE),
    _gauge(
        "dead_letter_oldest_timestamp_seconds",
        "Unix time at which the message of the oldest letter first came; absent when the box is empty.",
        merge=Merge.INSTANCE,
    ),
    _gauge("dead_letter_box_bytes", "Size of the box's file.", merge=Merge.INSTANCE),
    _gauge("dead_letter_box_max_bytes", "Its bound (`dead_letters.max_size`).", merge=Merge.INSTANCE),
    _gauge("ready", "1 when /readyz says 200.", merge=Merge.INSTANCE),
    _gauge("check_ok", "1 when one of the checks of /readyz is well.", ("check",), Merge.INSTANCE),
    _gauge("processes_configured", "Processes that should run (`pipeline.processes`).", merge=Merge.INSTANCE),
    _gauge("processes_running", "Processes that run and have reported.", merge=Merge.INSTANCE),
    _counter("process_restarts", "Processes that ended and were to be started again.", merge=Merge.INSTANCE),
    _gauge("build_info", "Always 1; the labels say what runs.", ("version", "python"), Merge.INSTANCE),
)
METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in _METRICS}
"""Name -> definition, in the order of the documentation."""

PROCESS_METRICS: Final[Mapping[str, str]] = {
    "process_cpu_seconds_total": "User and system CPU time.",
    "process_resident_memory_bytes": "Resident memory.",
    "process_virtual_memory_bytes": "Virtual memory.",
    "process_start_time_seconds": "Unix time of the process's start.",
    "process_open_fds": "Open file descriptors.",
    "process_max_fds": "How many it may have open.",
}
"""The standard metrics of a process (Linux), by the label `process`: a number, or `supervisor`."""
