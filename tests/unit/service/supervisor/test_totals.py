"""The totals: the counts of all processes, restarts included, as one status."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sensorsync.pipeline.counters import PipelineCounters
from sensorsync.service.supervisor.totals import ProcessTotals


def record(**counts: Any) -> dict[str, Any]:
    return {**asdict(PipelineCounters(0.0).snapshot(1.0)), "event": "status", **counts}


def test_two_processes_add_up() -> None:
    totals = ProcessTotals(0.0)
    totals.update(0, record(received=10, landed=7, settled=7, queue_depth=3, links=2, flushes={"full": 1}))
    totals.update(1, record(received=5, landed=4, settled=5, parked=1, links=2, flushes={"full": 2, "linger": 1}))

    status = totals.snapshot(1.0)
    assert (status.received, status.landed, status.settled, status.parked) == (15, 11, 12, 1)
    assert (status.queue_depth, status.links) == (3, 4)
    assert status.flushes == {"full": 3, "linger": 1}
    assert totals.settled == 12


def test_the_counts_of_an_ended_process_stay_but_not_its_queue() -> None:
    totals = ProcessTotals(0.0)
    totals.update(0, record(received=10, landed=7, settled=7, queue_depth=3, links=2))
    totals.process_ended(0)
    totals.update(0, record(received=4, landed=4, settled=4, links=2, parked_by_reason={"json": 1}))
    totals.process_ended(1)  # it had not reported yet

    status = totals.snapshot(1.0)
    assert (status.received, status.landed, status.queue_depth, status.links) == (14, 11, 0, 2)
    assert status.parked_by_reason == {"json": 1}


def test_queue_depth_and_links_are_those_of_the_running_processes() -> None:
    totals = ProcessTotals(0.0)
    totals.update(0, record(landed=7, in_flight=3, window=40))
    totals.update(1, record(landed=4, in_flight=2, window=20))
    assert (totals.snapshot(1.0).in_flight, totals.snapshot(1.0).window) == (5, 60)

    totals.process_ended(0)
    assert (totals.snapshot(1.0).in_flight, totals.snapshot(1.0).window) == (2, 20)
    assert {number: status.landed for number, status in totals.running_snapshots().items()} == {1: 4}


def test_a_report_begins_a_new_interval() -> None:
    totals = ProcessTotals(10.0)
    totals.update(0, record(landed=100, new=100, latency=0.1))
    totals.update(1, record(landed=300, new=300, latency=0.5))
    assert totals.rows_since_report == 400

    status = totals.take_interval_snapshot(12.0)
    assert (status.new, status.rate, status.latency) == (400, 200.0, 0.4)
    assert totals.rows_since_report == 0
    totals.update(0, record(landed=150, new=50, latency=0.2))
    assert totals.snapshot(13.0).new == 50
    assert totals.snapshot(13.0).latency == 0.2


def test_the_overall_rate_is_from_the_first_arrival_to_the_last_commit_of_all_processes() -> None:
    totals = ProcessTotals(0.0)
    assert totals.snapshot(1.0).overall_rate == 0.0
    totals.update(0, record(landed=100, first_arrival=12.0, last_settled=14.0))
    totals.process_ended(0)
    totals.update(1, record(landed=300, first_arrival=13.0, last_settled=16.0))
    totals.update(2, record())  # it had nothing to do
    assert totals.snapshot(20.0).overall_rate == 100.0
