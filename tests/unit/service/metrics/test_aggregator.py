"""The aggregator: the reports of several processes, restarts included, as one."""

from __future__ import annotations

from threading import Event

from prometheus_client import CollectorRegistry

from sensorsync.service.metrics.aggregator import REPORT_TIMEOUT, MetricsAggregator
from sensorsync.service.metrics.definitions import CHECKS
from sensorsync.service.metrics.exposition import MetricsCollector
from sensorsync.service.metrics.health_probe import HealthProbe
from tests.services import eventually
from tests.unit.service.metrics.process_reports import sample_report


def number(aggregator: MetricsAggregator, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(MetricsCollector(aggregator))
    return registry.get_sample_value(name, labels)


def test_counters_and_histograms_of_processes_are_summed_and_gauges_are_labelled() -> None:
    aggregator = MetricsAggregator(2)
    aggregator.update(0, sample_report(10, links=3))
    aggregator.update(1, sample_report(5, links=4))
    assert number(aggregator, "sensorsync_rows_stored_total") == 15
    assert number(aggregator, "sensorsync_received_to_stored_seconds_count") == 15
    assert number(aggregator, "sensorsync_received_to_stored_seconds_bucket", le="0.05") == 15
    assert number(aggregator, "sensorsync_received_to_stored_seconds_bucket", le="0.025") == 0
    assert number(aggregator, "sensorsync_batches_total", reason="full") == 2
    assert number(aggregator, "sensorsync_broker_links", process="0") == 3
    assert number(aggregator, "sensorsync_broker_links", process="1") == 4


def test_a_restarted_process_does_not_decrease_any_counter() -> None:
    aggregator = MetricsAggregator(2)
    seen: list[tuple[float | None, ...]] = []

    def look() -> None:
        names = ("rows_stored_total", "batch_size_messages_sum", "last_commit_timestamp_seconds", "batches_total")
        labels = {"batches_total": {"reason": "full"}}
        seen.append(tuple(number(aggregator, f"sensorsync_{name}", **labels.get(name, {})) for name in names))

    for messages in (10, 5, 0, 7):
        aggregator.update(0, sample_report(3))
        aggregator.update(1, sample_report(messages))
        look()
        aggregator.process_ended(1)
        look()
        assert number(aggregator, "sensorsync_broker_links", process="1") is None
        aggregator.process_ended(1)  # it ended again before its first report
        look()
    assert seen == sorted(seen)
    assert [row[0] for row in seen[::3]] == [13, 18, 18, 25]


def test_counters_are_exposed_as_0_from_the_start() -> None:
    aggregator = MetricsAggregator(1)
    for name, labels in [
        ("sensorsync_rows_stored_total", {}),
        ("sensorsync_messages_parked_total", {"reason": "json"}),
        ("sensorsync_batches_total", {"reason": "stalled"}),
        ("sensorsync_commit_duration_seconds_count", {}),
    ]:
        assert number(aggregator, name, **labels) == 0


def test_it_is_ready_when_every_process_is_and_names_the_one_that_is_not() -> None:
    aggregator = MetricsAggregator(2)
    assert aggregator.checks()["processes"] == "process 1: it has not begun, or has ended"
    aggregator.update(0, sample_report())
    aggregator.update(1, sample_report())
    assert aggregator.checks() == dict.fromkeys(CHECKS)
    assert number(aggregator, "sensorsync_ready") == 1
    aggregator.update(1, sample_report(links=0))
    assert aggregator.checks()["broker"] == "process 1: no connection to the broker"
    assert number(aggregator, "sensorsync_check_ok", check="broker") == 0
    assert number(aggregator, "sensorsync_ready") == 0


def test_the_problem_of_a_single_process_has_no_process_number() -> None:
    aggregator = MetricsAggregator(1)
    aggregator.update(0, sample_report(links=0))
    assert aggregator.checks()["broker"] == "no connection to the broker"
    assert list(aggregator.pids()) == ["0"]


def test_a_process_without_reports_is_not_ready() -> None:
    now = 100.0
    aggregator = MetricsAggregator(2, clock=lambda: now)
    aggregator.update(0, sample_report())
    aggregator.update(1, sample_report())
    now += REPORT_TIMEOUT + 1
    aggregator.update(0, sample_report())
    assert aggregator.checks()["processes"] == "process 1: it has said nothing for 11s"


def test_while_it_stops_it_is_not_ready() -> None:
    aggregator = MetricsAggregator(1)
    aggregator.update(0, sample_report())
    aggregator.is_stopping = lambda: True
    assert aggregator.checks()["processes"] == "it is stopping"


def test_an_error_of_a_health_probe_fails_its_check_until_it_is_over() -> None:
    problem: list[str] = ["read-only"]

    def look() -> dict[str, list[tuple[list[str], list[float]]]]:
        if problem:
            raise RuntimeError(problem[0])
        return {"sensorsync_dead_letter_box_bytes": [([], [4096.0])]}

    aggregator = MetricsAggregator(1)
    aggregator.update(0, sample_report())
    closed = Event()
    with HealthProbe("database", look, interval=0.01, close=closed.set) as probe:
        aggregator.probes = [probe]
        eventually(lambda: aggregator.checks()["database"] == "read-only", "the problem")
        problem.clear()
        eventually(lambda: aggregator.checks()["database"] is None, "its end")
        assert number(aggregator, "sensorsync_dead_letter_box_bytes") == 4096
    assert closed.wait(5)


def test_a_hanging_health_probe_fails_its_check() -> None:
    gate = Event()

    def look() -> dict[str, list[tuple[list[str], list[float]]]]:
        gate.wait(10)
        return {}

    probe = HealthProbe("dead_letters", look, interval=0.01, timeout=0.05)
    assert probe.problem() == "not looked at yet"
    with probe:
        eventually(lambda: (probe.problem() or "").startswith("no answer for"), "its impatience")
        gate.set()
        eventually(lambda: probe.problem() is None, "the answer")
