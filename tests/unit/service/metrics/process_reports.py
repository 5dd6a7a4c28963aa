"""Pictures of processes that never ran."""

from __future__ import annotations

from sensorsync.pipeline.counters import ConnectionPoolCounters, PipelineCounters
from sensorsync.service.metrics.process_report import ProcessReport, process_report


def sample_counters(messages: int = 0, *, links: int = 1) -> PipelineCounters:
    """Return the counters of a process that has received and stored `messages`, in one batch, within 30 ms."""
    made = PipelineCounters(0.0)
    made.links = links
    if messages:
        made.received += messages
        made.flushes["full"] += 1
        made.count_batch(
            messages_stored=messages,
            rows_stored=messages,
            redelivered_rows=0,
            parked={},
            transactions=1,
            arrivals=[(messages, 9.97)],
            now=10.0,
        )
        made.add_writer().count_commit(0.02, "2026-01-01 00:00:00.000000")
    return made


def sample_report(messages: int = 0, *, links: int = 1) -> ProcessReport:
    """Return the report of a healthy process with a connection pool."""
    return process_report(sample_counters(messages, links=links), ConnectionPoolCounters(20), 11.0, stall_after=60.0)
