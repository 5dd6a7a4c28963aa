"""The board: several processes as one, over all their lives."""

from __future__ import annotations

from threading import Event

from prometheus_client import CollectorRegistry

from sensorsync.service.metrics.aggregator import REPORT_TIMEOUT, MetricsAggregator
from sensorsync.service.metrics.definitions import CHECKS
from sensorsync.service.metrics.exposition import MetricsCollector
from sensorsync.service.metrics.health_probe import HealthProbe
from tests.services import eventually
from tests.unit.service.metrics.process_reports import picture


def number(board: MetricsAggregator, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(MetricsCollector(board))
    return registry.get_sample_value(name, labels)


def test_counts_and_histograms_of_processes_add_up_and_gauges_stand_side_by_side() -> None:
    board = MetricsAggregator(2)
    board.update(0, picture(10, links=3))
    board.update(1, picture(5, links=4))
    assert number(board, "sensorsync_rows_stored_total") == 15
    assert number(board, "sensorsync_received_to_stored_seconds_count") == 15
    assert number(board, "sensorsync_received_to_stored_seconds_bucket", le="0.05") == 15
    assert number(board, "sensorsync_received_to_stored_seconds_bucket", le="0.025") == 0
    assert number(board, "sensorsync_batches_total", reason="full") == 2
    assert number(board, "sensorsync_broker_links", process="0") == 3
    assert number(board, "sensorsync_broker_links", process="1") == 4


def test_a_process_that_is_started_again_makes_no_counter_go_back() -> None:
    board = MetricsAggregator(2)
    seen: list[tuple[float | None, ...]] = []

    def look() -> None:
        names = ("rows_stored_total", "batch_size_messages_sum", "last_commit_timestamp_seconds", "batches_total")
        labels = {"batches_total": {"reason": "full"}}
        seen.append(tuple(number(board, f"sensorsync_{name}", **labels.get(name, {})) for name in names))

    for messages in (10, 5, 0, 7):
        board.update(0, picture(3))
        board.update(1, picture(messages))
        look()
        board.process_ended(1)
        look()
        assert number(board, "sensorsync_broker_links", process="1") is None
        board.process_ended(1)  # it died again before it had said anything
        look()
    assert seen == sorted(seen)
    assert [row[0] for row in seen[::3]] == [13, 18, 18, 25]


def test_counters_are_there_as_0_before_anything_happened() -> None:
    board = MetricsAggregator(1)
    for name, labels in [
        ("sensorsync_rows_stored_total", {}),
        ("sensorsync_messages_parked_total", {"reason": "json"}),
        ("sensorsync_batches_total", {"reason": "stalled"}),
        ("sensorsync_commit_duration_seconds_count", {}),
    ]:
        assert number(board, name, **labels) == 0


def test_it_is_ready_when_every_process_is_and_says_which_is_not() -> None:
    board = MetricsAggregator(2)
    assert board.checks()["processes"] == "process 1: it has not begun, or has ended"
    board.update(0, picture())
    board.update(1, picture())
    assert board.checks() == dict.fromkeys(CHECKS)
    assert number(board, "sensorsync_ready") == 1
    board.update(1, picture(links=0))
    assert board.checks()["broker"] == "process 1: no connection to the broker"
    assert number(board, "sensorsync_check_ok", check="broker") == 0
    assert number(board, "sensorsync_ready") == 0


def test_a_single_process_has_no_number_in_what_is_said_of_it() -> None:
    board = MetricsAggregator(1)
    board.update(0, picture(links=0))
    assert board.checks()["broker"] == "no connection to the broker"
    assert list(board.pids()) == ["0"]


def test_a_process_that_says_nothing_any_more_is_not_ready() -> None:
    now = 100.0
    board = MetricsAggregator(2, clock=lambda: now)
    board.update(0, picture())
    board.update(1, picture())
    now += REPORT_TIMEOUT + 1
    board.update(0, picture())
    assert board.checks()["processes"] == "process 1: it has said nothing for 11s"


def test_while_it_stops_it_is_not_ready() -> None:
    board = MetricsAggregator(1)
    board.update(0, picture())
    board.is_stopping = lambda: True
    assert board.checks()["processes"] == "it is stopping"


def test_an_error_of_a_health_probe_fails_its_check_until_it_is_over() -> None:
    problem: list[str] = ["read-only"]

    def look() -> dict[str, list[tuple[list[str], list[float]]]]:
        if problem:
            raise RuntimeError(problem[0])
        return {"sensorsync_dead_letter_box_bytes": [([], [4096.0])]}

    board = MetricsAggregator(1)
    board.update(0, picture())
    closed = Event()
    with HealthProbe("database", look, interval=0.01, close=closed.set) as watch:
        board.probes = [watch]
        eventually(lambda: board.checks()["database"] == "read-only", "the problem")
        problem.clear()
        eventually(lambda: board.checks()["database"] is None, "its end")
        assert number(board, "sensorsync_dead_letter_box_bytes") == 4096
    assert closed.wait(5)


def test_a_hanging_health_probe_fails_its_check() -> None:
    gate = Event()

    def look() -> dict[str, list[tuple[list[str], list[float]]]]:
        gate.wait(10)
        return {}

    watch = HealthProbe("dead_letters", look, interval=0.01, timeout=0.05)
    assert watch.problem() == "not looked at yet"
    with watch:
        eventually(lambda: (watch.problem() or "").startswith("no answer for"), "its impatience")
        gate.set()
        eventually(lambda: watch.problem() is None, "the answer")
