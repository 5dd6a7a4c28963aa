"""The counts of several processes, added."""

from __future__ import annotations

from sensorsync.loadtest.counts import PublishCounts
from sensorsync.mqtt.publisher.inflight import PublishStats


def reported(*latencies: int) -> PublishCounts:
    """The last report of a process."""
    stats = PublishStats()
    for latency in latencies:
        stats.latency.record(latency)
    return PublishCounts.from_stats(stats, 0, encode_latency=True)


def test_the_total_percentiles_are_those_of_all_messages_of_all_processes() -> None:
    total = PublishCounts.total([reported(*[1000] * 90), reported(*[2000] * 9), reported(), reported(1_234_567)])
    assert total.latency_ms() == {"p50": 1.0, "p90": 1.0, "p99": 2.0, "p99.9": 1234.567, "max": 1234.567}


def test_counts_without_an_answered_message_have_no_latency() -> None:
    assert PublishCounts.total([reported(), reported()]).latency_ms() == dict.fromkeys(
        ["p50", "p90", "p99", "p99.9", "max"]
    )
