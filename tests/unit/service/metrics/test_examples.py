"""The examples for Prometheus and Grafana query only metrics that exist, and their queries are PromQL."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from sensorsync.service.metrics.definitions import CHECKS, METRICS, PROCESS_METRICS

ROOT = Path(__file__).parents[4]
PROMETHEUS = ROOT / "examples/prometheus"
ALERTS = [
    rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
DASHBOARD = json.loads((ROOT / "examples/grafana/dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

_TARGET = {"job", "instance"}
"""What Prometheus adds to every series."""
LABELS: dict[str, set[str]] = {
    "up": _TARGET,
    **{name: {*_TARGET, "process"} for name in PROCESS_METRICS},
    **{name: {*_TARGET, *metric.all_labels} for metric in METRICS.values() for name in metric.series},
    **{name: {*_TARGET, "le"} for metric in METRICS.values() for name in metric.series if name.endswith("_bucket")},
}


def parsed(query: str) -> Any:
    """The query with Grafana's variables filled in."""
    for name, value in (("$__rate_interval", "5m"), ("$job", "j"), ("$instance", "i")):
        query = query.replace(name, value)
    return promql_parser.parse(query)


def nodes(query: str) -> list[Any]:
    found: list[Any] = []
    promql_parser.walk(parsed(query), found.append)
    return found


def queries() -> Iterator[tuple[str, str]]:
    """(where, query)."""
    yield from ((rule["alert"], rule["expr"]) for rule in ALERTS)
    yield from ((panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"])
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"].removeprefix("label_values(").rpartition(",")[0]


QUERIES = list(queries())


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[f"{n}-{where}" for n, (where, _) in enumerate(QUERIES)])
def test_every_query_is_promql_over_metrics_and_labels_that_exist(where: str, query: str) -> None:
    asked = [node for node in nodes(query) if isinstance(node, promql_parser.VectorSelector)]
    assert asked
    available: set[str] = set()
    for selector in asked:
        assert selector.name in LABELS, f"{where} asks for {selector.name}"
        matchers = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
        assert matchers.keys() <= LABELS[selector.name], f"{where}: no such label"
        assert matchers.get("check") in {None, *CHECKS}
        available |= LABELS[selector.name]
    for node in nodes(query):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            assert set(node.modifier.labels) <= available, f"{where} groups by a label that no series has"


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[f"{n}-{where}" for n, (where, _) in enumerate(QUERIES)])
def test_rates_are_taken_of_counters_and_of_nothing_else(where: str, query: str) -> None:
    rated = {
        call.args[0].vector_selector.name
        for call in nodes(query)
        if isinstance(call, promql_parser.Call) and call.func.name in {"rate", "increase"}
    }
    counts = {name for name in LABELS if name.endswith(("_total", "_bucket", "_sum", "_count"))}
    used = {node.name for node in nodes(query) if isinstance(node, promql_parser.VectorSelector)}
    assert rated == used & counts, where


def test_legends_name_labels_that_their_queries_have() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            names = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = [node for node in nodes(target["expr"]) if isinstance(node, promql_parser.AggregateExpr)]
            labels = set(kept[0].modifier.labels if kept[0].modifier else ()) if kept else _TARGET
            assert names <= labels, panel["title"]


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not mine & cells, panel["title"]
        assert max(x for x, _ in mine) < 24
        cells |= mine


def test_the_dashboard_shows_every_metric_of_sensorsync() -> None:
    shown = {
        node.name
        for panel in PANELS
        for target in panel["targets"]
        for node in nodes(target["expr"])
        if isinstance(node, promql_parser.VectorSelector)
    }
    missing = [name for name, metric in METRICS.items() if not shown & set(metric.series)]
    assert missing == ["sensorsync_reading_paused"]  # its counter is there


def test_every_alert_links_to_its_section_of_the_guide() -> None:
    guide = (ROOT / "docs/how-to/monitor.md").read_text()
    assert re.findall(r"^\| `(Sensorsync\w+)` \|", guide, re.MULTILINE) == [
        *dict.fromkeys(re.findall(r"^\| `(Sensorsync\w+)` \|", guide, re.MULTILINE))
    ]
    assert set(re.findall(r"^\| `(Sensorsync\w+)` \|", guide, re.MULTILINE)) == {rule["alert"] for rule in ALERTS}
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]


def test_prometheus_scrapes_the_job_that_the_alerts_query() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "sensorsync"
    assert all((PROMETHEUS / name).is_file() for name in config["rule_files"])


@pytest.mark.parametrize(
    "words",
    [
        ("check", "config", "examples/prometheus/prometheus.yml"),
        ("check", "rules", "examples/prometheus/alerts.yml"),
        ("test", "rules", "tests/unit/service/metrics/alerts.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts_the_configuration_and_the_alerts_fire_when_they_should(words: Sequence[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on the PATH (Debian: apt-get install prometheus)")
    done = subprocess.run([promtool, *words], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
