"""The exposition: Prometheus's own parsers accept it, and it matches the definitions."""

from __future__ import annotations

import os
import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from sensorsync.service.metrics.aggregator import MetricsAggregator
from sensorsync.service.metrics.definitions import METRICS, PROCESS_METRICS, MetricKind
from sensorsync.service.metrics.exposition import exposition
from tests.unit.service.metrics.process_reports import sample_report

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def aggregator() -> MetricsAggregator:
    made = MetricsAggregator(2)
    made.update(0, sample_report(10))
    made.update(1, sample_report(5))
    return made


@pytest.mark.parametrize(
    ("accept", "parse", "kind"),
    [(OPENMETRICS, parse_openmetrics, "application/openmetrics-text"), ("", parse_text, "text/plain")],
)
def test_prometheus_own_parser_accepts_every_family(accept: str, parse: object, kind: str) -> None:
    body, content_type = exposition(aggregator(), accept)
    families = {family.name: family for family in parse(body.decode())}  # type: ignore[operator]
    assert content_type.startswith(kind)
    seen = {sample.name for family in families.values() for sample in family.samples}
    # These exist only once there is a value.
    later = {
        "sensorsync_batches_kept_total",
        "sensorsync_window_messages",
        "sensorsync_link_in_flight_messages",
        *(name for name in METRICS if name.startswith("sensorsync_dead_letter")),
    }
    assert {name for metric in METRICS.values() for name in metric.series} - seen == later
    for family in families.values():
        if family.name.startswith("sensorsync_"):
            counter = family.name if family.name in METRICS else f"{family.name}_total"
            assert family.type == METRICS[counter].kind
            assert {*METRICS[counter].all_labels} >= {name for s in family.samples for name in s.labels} - {"le"}


def test_each_process_has_its_standard_metrics_and_the_supervisor_has_its_own() -> None:
    body, _ = exposition(aggregator(), "")
    found = {
        (sample.name, sample.labels["process"])
        for family in parse_text(body.decode())
        for sample in family.samples
        if sample.name.startswith("process_")
    }
    assert found == {(name, process) for name in PROCESS_METRICS for process in ("supervisor", "0", "1")}


def test_a_process_that_has_just_ended_has_no_metrics_and_causes_no_error() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    gone = aggregator()
    gone.update(1, {**sample_report(5), "pid": pid})
    exposition(gone, "")  # it may be a zombie
    os.waitpid(pid, 0)
    body, _ = exposition(gone, "")
    assert 'process_cpu_seconds_total{process="1"}' not in body.decode()
    assert 'process_cpu_seconds_total{process="0"}' in body.decode()


@pytest.mark.parametrize("name", METRICS)
def test_names_follow_prometheus_conventions(name: str) -> None:
    metric = METRICS[name]
    assert re.fullmatch(r"sensorsync_[a-z_]+", name)
    assert (metric.kind is MetricKind.COUNTER) == name.endswith("_total")
    assert "process" not in metric.labels
    assert metric.help.endswith(".")
    assert list(metric.buckets) == sorted(set(metric.buckets))
    if "duration" in name or name.endswith("_stored_seconds"):
        assert metric.kind is MetricKind.HISTOGRAM


def test_a_version_that_is_not_a_number_gets_the_text_format() -> None:
    _, content_type = exposition(aggregator(), "application/openmetrics-text; version=abc")
    assert content_type.startswith("text/plain")
