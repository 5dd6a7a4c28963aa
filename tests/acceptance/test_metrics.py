"""Metrics and health of real processes, while things around them break and come back."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.acceptance.test_promise import commands_for
from tests.conftest import DatabaseServer, Mosquitto
from tests.processes import children
from tests.services import eventually
from tests.services.process import free_port

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(720)]

MESSAGES = 4_000
Series = tuple[str, frozenset[tuple[str, str]]]


class Prometheus:
    """Scrapes one subscriber as Prometheus does, and insists that no count ever goes back and that it is always alive."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._counts: dict[Series, float] = {}

    def get(self, path: str) -> tuple[int, str]:
        request = urllib.request.Request(  # noqa: S310 - our own server
            self._url + path, headers={"Accept": "application/openmetrics-text; version=1.0.0"}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - see above
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()

    def scrape(self) -> dict[Series, float]:
        """All samples of this moment."""
        samples: list[tuple[str, Sample]] = [
            (family.type, sample)
            for family in text_string_to_metric_families(self.get("/metrics")[1])  # type: ignore[no-untyped-call]
            for sample in family.samples
            if sample.name.startswith("sensorsync_")
        ]
        for kind, sample in samples:
            series = sample.name, frozenset(sample.labels.items())
            if kind in {"counter", "histogram"}:
                before = self._counts.get(series, 0.0)
                assert sample.value >= before, f"{series} went back from {before} to {sample.value}"
                self._counts[series] = sample.value
        assert self.get("/healthz")[0] == 200
        return {(sample.name, frozenset(sample.labels.items())): sample.value for _, sample in samples}

    def value(self, name: str, **labels: str) -> float:
        return self.scrape()[f"sensorsync_{name}", frozenset(labels.items())]

    def failing(self) -> set[str]:
        """The checks of /readyz that are not well; its status must say the same."""
        self.scrape()
        status, text = self.get("/readyz")
        failing = {check for check, words in json.loads(text)["checks"].items() if words != "ok"}
        assert status == (503 if failing else 200)
        return failing

    def tells_of_a_death(self) -> bool:
        """A process is not there, or is there again."""
        return "processes" in self.failing() or self.value("process_restarts_total") == 1

    def becomes_ready(self) -> None:
        eventually(lambda: not self.failing(), "readiness", 30)

    def fails(self, check: str) -> None:
        eventually(lambda: check in self.failing(), f"the failure of {check}", 30)


def test_metrics_and_readiness_of_two_processes_tell_the_truth_while_things_break_and_come_back(
    mosquitto: Mosquitto, private_database_server: DatabaseServer, tmp_path: Path
) -> None:
    server, port = private_database_server, free_port()
    server.prepare()
    commands = commands_for(
        mosquitto,
        server,  # type: ignore[arg-type]  # all of it that is asked for is its environment
        tmp_path / "state",
        SENSORSYNC_MQTT__CONNECTIONS="2",
        SENSORSYNC_MQTT__BACKOFF_MIN="50ms",
        SENSORSYNC_MQTT__BACKOFF_MAX="200ms",
        SENSORSYNC_METRICS__CHECK_INTERVAL="200ms",
        SENSORSYNC_DATABASE__WAIT_FOR_DATABASE="yes",
        SENSORSYNC_DATABASE__LOCK_WAIT_TIMEOUT="1s",
        SENSORSYNC_DATABASE__CONNECT_TIMEOUT="1s",
        SENSORSYNC_DATABASE__READ_TIMEOUT="1100ms",
    )
    log = tmp_path / "subscriber.log"
    with commands.start(log, "subscribe", "--processes", "2", "--metrics", f"127.0.0.1:{port}") as process:
        process.logged("metrics and health on")
        prometheus = Prometheus(port)
        prometheus.becomes_ready()

        # Under load, and over the death of a process.
        load = ("--messages", str(MESSAGES), "--run", "r", "--processes", "1")
        with commands.start(tmp_path / "publisher.log", "stress-publish", *load) as publisher:
            eventually(lambda: prometheus.value("rows_stored_total") > 0, "rows", 30)
            victim = children(process.pid)[1]
            os.kill(victim, signal.SIGKILL)
            eventually(prometheus.tells_of_a_death, "the death", 30)
            prometheus.becomes_ready()
            assert prometheus.value("process_restarts_total") == 1
            assert publisher.finish().exit_code == 0
        eventually(lambda: rows(server) == MESSAGES, "all rows", 30)
        eventually(lambda: prometheus.value("queue_messages", process="1") == 0, "an empty queue", 30)
        # What the victim had counted after its last report is lost with it: the rows are there all the same.
        assert 0 < prometheus.value("rows_stored_total") <= MESSAGES + prometheus.value("rows_redelivered_total")

        server.freeze()
        mosquitto.kill()
        prometheus.fails("broker")
        prometheus.fails("database")
        assert prometheus.failing() >= {"broker", "database"}
        server.thaw()
        mosquitto.start()
        prometheus.becomes_ready()
        # Two links of two processes; this broker keeps no session over a kill.
        eventually(lambda: prometheus.value("broker_reconnects_total") == 4, "the return of all links", 30)
        assert prometheus.value("sessions_lost_total") == 4
        assert process.terminate() == 0
    assert "Traceback" not in log.read_text()


def rows(server: DatabaseServer) -> int:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM {server.name}.sensor_readings")
        row = cursor.fetchone()
        assert row is not None
        return int(row[0])
