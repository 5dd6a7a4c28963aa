"""The report of one process: its metrics and its failing checks."""

from __future__ import annotations

import json

from sensorsync.pipeline.contract import SinkUnavailable
from sensorsync.pipeline.counters import ConnectionPoolCounters, Histogram, PipelineCounters, RetryCause
from sensorsync.service.metrics.definitions import METRICS, Merge
from sensorsync.service.metrics.process_report import process_report
from tests.unit.service.metrics.process_reports import sample_counters, sample_report


def test_a_value_falls_into_the_bucket_of_its_upper_bound_and_a_negative_one_counts_as_0() -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.observe(1.0, 3)
    histogram.observe(1.5)
    histogram.observe(7.0, 2)
    histogram.observe(-5.0)
    assert histogram.sum_and_counts() == [18.5, 4, 1, 2]


def test_a_process_report_has_every_process_metric_and_survives_json() -> None:
    full = sample_counters(10)
    full.window_estimate = type("Window", (), {"window": 32})()
    full.ledgers[0] = type("Ledger", (), {"in_flight": 4})()
    taken = process_report(full, ConnectionPoolCounters(20), 11.0, stall_after=60.0)
    wanted = {name for name, metric in METRICS.items() if metric.merge is not Merge.INSTANCE}
    assert set(taken["values"]) == wanted
    assert json.loads(json.dumps(taken))["values"]["sensorsync_messages_received_total"] == [[[], [10]]]


def test_every_message_of_a_batch_is_in_the_received_to_stored_histogram() -> None:
    total, *counts = sample_report(10)["values"]["sensorsync_received_to_stored_seconds"][0][1]
    assert (round(total, 6), sum(counts)) == (0.3, 10)


def test_a_healthy_process_has_no_failing_checks() -> None:
    assert sample_report(10)["failing"] == {}


def test_a_process_without_a_connection_fails_the_broker_check() -> None:
    assert sample_report(links=0)["failing"] == {"broker": "no connection to the broker"}


def test_a_message_that_waits_too_long_is_a_stall() -> None:
    one = sample_counters()
    one.oldest_arrival = lambda: 100.0
    assert process_report(one, None, 159.0, stall_after=60.0)["failing"] == {}
    late = process_report(one, None, 161.0, stall_after=60.0)
    assert late["failing"] == {"stall": "a message has waited for 61s"}
    assert late["values"]["sensorsync_oldest_unacknowledged_seconds"] == [([], [61.0])]


def test_a_waiting_writer_fails_the_check_of_the_cause() -> None:
    for cause, check in [
        (RetryCause.DATABASE, "database"),
        (RetryCause.CONFIGURATION, "database"),
        (RetryCause.REFUSALS, "refusals"),
        (RetryCause.DEAD_LETTERS, "dead_letters"),
    ]:
        one = sample_counters()
        one.add_writer()
        one.add_writer().blocked_by = cause, "why"
        taken = process_report(one, None, 0.0, stall_after=60.0)
        assert taken["failing"] == {check: "why"}
        assert taken["values"]["sensorsync_writers_waiting"] == [([], [1])]


def test_retries_are_counted_by_cause_and_errno_over_all_writers() -> None:
    one = PipelineCounters(0.0)
    for _ in range(2):
        one.add_writer().count_retry(RetryCause.DATABASE, SinkUnavailable("gone", errno=2013))
    one.add_writer().count_retry(RetryCause.DEAD_LETTERS, OSError("no number"))
    kept = process_report(one, None, 0.0, stall_after=60.0)["values"]["sensorsync_batches_kept_total"]
    assert kept == [(["database", "2013"], [2]), (["dead_letters", ""], [1])]
