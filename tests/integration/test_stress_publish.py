"""`stress-publish` and `audit` as processes, on a real broker and a SQLite file."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from tests.commands import Background, Commands
from tests.conftest import Mosquitto, need
from tests.services import eventually, free_port

pytestmark = [pytest.mark.broker, pytest.mark.timeout(360)]

KEY = "a-test-key-of-at-least-32-bytes-of-length"


def commands_for(port: int, folder: Path, **more: str) -> Commands:
    return Commands(
        {
            "MQTT_BROKER": f"127.0.0.1:{port}",
            "SENSORSYNC_DATABASE__DRIVER": "sqlite",
            "SENSORSYNC_DATABASE__PATH": str(folder / "readings.sqlite"),
            "SENSORSYNC_STATE_DIR": str(folder / "state"),
            "SENSORSYNC_SIGNING_KEY": KEY,
            **more,
        }
    )


@contextmanager
def subscriber(commands: Commands, log: Path, *words: str) -> Iterator[Background]:
    with commands.start(log, "--log-format", "json", "subscribe", *words) as process:
        process.logged('"event": "connected"')
        yield process


def answered(log: Path) -> int:
    """What the last progress line of a publisher says."""
    events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return max((event["acked"] + event["not_acked"] for event in events if event.get("event") == "progress"), default=0)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_twenty_thousand_messages_are_published_stored_and_audited(mosquitto: Mosquitto, tmp_path: Path) -> None:
    commands = commands_for(mosquitto.port, tmp_path)
    commands.run("init-db")
    publisher = commands.start(
        tmp_path / "publisher.log", "stress-publish", "--messages", "20000", "--verify", "--json", "--run", "load"
    )
    with publisher:
        publisher.logged("waiting for a subscriber")
        with subscriber(commands, tmp_path / "subscriber.log"):
            done = publisher.finish()
    assert done.exit_code == 0, done.err
    data = done.data
    assert (data["messages"], data["sent"], data["acked"], data["stored"], data["missing"]) == (
        20000,
        20000,
        20000,
        20000,
        0,
    )
    assert (data["no_subscriber"], data["failed"], data["unacknowledged"], data["reason_codes"]) == (0, 0, 0, {})
    assert (data["processes"], data["clients"], data["signed"], data["run"]) == (2, 16, True, "load")
    assert data["throughput"] > 0
    latency = data["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"] <= latency["max"]
    assert data["audit"]["corrupt"] == data["audit"]["duplicates"] == 0

    cleaned = commands.run("audit", "load", "--clean", "--json")
    assert (cleaned.data["stored"], cleaned.data["deleted"], cleaned.data["redelivered"]) == (20000, 20000, None)
    again = commands.run("audit", "load", "--json", check=False)
    assert (again.exit_code, again.data["stored"]) == (5, 0)


def test_an_open_loop_sends_when_messages_are_due_and_every_one_of_them_is_audited(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    commands = commands_for(mosquitto.port, tmp_path)
    commands.run("init-db")
    words = ("--rate", "500", "--devices", "7", "--topics", "3", "--payload-size", "1000")
    publisher = commands.start(
        tmp_path / "publisher.log",
        "stress-publish",
        "--messages",
        "1000",
        *words,
        "--verify",
        "--json",
        "--run",
        "open",
    )
    with publisher:
        publisher.logged("waiting for a subscriber")
        with subscriber(commands, tmp_path / "subscriber.log"):
            done = publisher.finish()
    assert done.exit_code == 0, done.err
    data = done.data
    assert (data["acked"], data["stored"], data["missing"], data["audit"]["corrupt"]) == (1000, 1000, 0, 0)
    assert (data["rate"], data["devices"], data["topics"], data["payload_size"]) == (500, 7, 3, 1000)
    assert 0 < data["achieved"] <= 500.5
    assert data["duration"] >= 999 / 500
    latency = data["latency_ms"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["p99.9"] <= latency["max"]

    query = "SELECT device_id, topic, ts, received_at, length(payload) FROM sensor_readings ORDER BY ts"
    with closing(sqlite3.connect(tmp_path / "readings.sqlite")) as database:
        rows = database.execute(query).fetchall()
    assert {device for device, *_ in rows} == {f"open-{number:05d}" for number in range(7)}
    assert {topic for _, topic, *_ in rows} == {f"sensors/live/stress_test/{number}" for number in range(3)}
    assert min(size for *_, size in rows) >= 1000
    due, arrived = ([datetime.fromisoformat(row[column]) for row in rows] for column in (2, 3))
    assert not [at for at, then in zip(due, arrived, strict=True) if then < at]
    # The probe left before the schedule began; from there on a message is due every 2 ms, whichever process sends it.
    gaps = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(due[1:])]
    assert gaps == pytest.approx([0.002] * 998, abs=2e-6)


@pytest.mark.long
def test_two_thousand_clients_of_one_process_have_every_message_acknowledged(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    commands = commands_for(mosquitto.port, tmp_path)
    commands.run("init-db")
    script = "import resource, sys; from sensorsync.cli.entry import main\n"
    script += "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
    script += "resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)); sys.exit(main(sys.argv[1:]))"
    low_limit = Commands(commands.environment, (sys.executable, "-c", script))
    with subscriber(commands, tmp_path / "subscriber.log"):
        words = ("--clients", "2000", "--processes", "1", "--messages", "10000", "--rate", "2000", "--verify")
        data = low_limit.run("stress-publish", *words, "--json").data
    assert (data["clients"], data["acked"], data["unacknowledged"], data["missing"]) == (2000, 10_000, 0, 0)
    assert data["reconnects"] == 0


def test_without_a_subscriber_the_exit_code_is_5_and_says_so(mosquitto: Mosquitto, tmp_path: Path) -> None:
    commands = commands_for(mosquitto.port, tmp_path)
    done = commands.run("stress-publish", "--messages", "500", "--processes", "1", "--json", check=False)
    assert (done.exit_code, done.data["acked"], done.data["no_subscriber"]) == (5, 0, 500)
    assert done.data["reason_codes"] == {"0x10": 500}
    assert [error["code"] for error in done.envelope["errors"]] == ["no_subscriber"]


def test_a_broker_that_restarts_in_the_middle_answers_every_message_in_the_end(tmp_path: Path) -> None:
    need(Mosquitto)
    with Mosquitto(persistence=True) as broker:
        commands = commands_for(broker.port, tmp_path)
        log = tmp_path / "publisher.log"
        words = ("--log-format", "json", "stress-publish", "--messages", "300000", "--run", "restart", "--json")
        with commands.start(log, *words) as publisher:
            eventually(lambda: answered(log) > 5000, "some messages", 30)
            broker.stop()
            broker.start()
            data = publisher.finish().data
        assert (data["sent"], data["unacknowledged"]) == (300_000, 0)
        assert data["acked"] + data["no_subscriber"] == 300_000
        assert data["reconnects"] >= 1
        assert data["retransmitted"] >= 1


def test_ctrl_c_stops_cleanly_reports_and_leaves_no_process(mosquitto: Mosquitto, tmp_path: Path) -> None:
    commands = commands_for(mosquitto.port, tmp_path)
    log = tmp_path / "publisher.log"
    with commands.start(log, "stress-publish", "--messages", "50000000", "--json") as publisher:
        publisher.logged("publishing")
        children = children_of(publisher.pid)
        for pid in (*children, publisher.pid):  # a terminal sends it to all of them
            os.kill(pid, signal.SIGINT)
        done = publisher.finish(30)
    assert done.exit_code == 5
    assert "interrupted" in {error["code"] for error in done.envelope["errors"]}
    assert done.data["unacknowledged"] == 0
    assert 0 < done.data["sent"] < 50_000_000
    assert "Traceback" not in done.err
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "the end of all children")


def test_children_die_with_a_parent_that_is_killed(mosquitto: Mosquitto, tmp_path: Path) -> None:
    commands = commands_for(mosquitto.port, tmp_path)
    with commands.start(tmp_path / "publisher.log", "stress-publish", "--messages", "50000000") as publisher:
        publisher.logged("publishing")
        children = children_of(publisher.pid)
        assert len(children) >= 2
        publisher.kill()
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "the end of all children")


def test_a_process_that_dies_is_reported_and_the_others_finish(mosquitto: Mosquitto, tmp_path: Path) -> None:
    commands = commands_for(mosquitto.port, tmp_path)
    log = tmp_path / "publisher.log"
    words = ("stress-publish", "--messages", "100000", "--clients", "1", "--window", "50", "--json")
    with commands.start(log, *words) as publisher:
        publisher.logged("publishing")
        victims = [
            pid for pid in children_of(publisher.pid) if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()
        ]
        os.kill(victims[0], signal.SIGKILL)
        done = publisher.finish(60)
    assert done.exit_code == 5
    (died,) = [error for error in done.envelope["errors"] if error["code"] == "publisher_died"]
    assert "exit code -9" in died["message"]
    assert done.data["sent"] >= 50_000
    assert "unacknowledged" in {error["code"] for error in done.envelope["errors"]}


def test_a_broker_that_is_not_there_is_exit_code_3(tmp_path: Path) -> None:
    done = commands_for(free_port(), tmp_path).run("stress-publish", "--json", check=False)
    assert done.exit_code == 3
    assert done.envelope["errors"][0]["code"] == "broker_unavailable"
    assert "Traceback" not in done.err


def test_verify_looks_at_the_database_before_anything_is_published(mosquitto: Mosquitto, tmp_path: Path) -> None:
    done = commands_for(mosquitto.port, tmp_path).run("stress-publish", "--verify", "--json", check=False)
    assert done.exit_code == 4
    assert "init-db" in done.envelope["errors"][0]["hint"]


def test_a_recording_is_published_and_its_bad_lines_are_named(mosquitto: Mosquitto, tmp_path: Path) -> None:
    commands = commands_for(mosquitto.port, tmp_path)
    commands.run("init-db")
    good = [
        json.dumps({"event_id": f"e{n}", "device_id": "d", "metric": "m", "ts": "2026-01-02T03:04:05Z", "value": n})
        for n in range(500)
    ]
    file = tmp_path / "readings.jsonl"
    file.write_text("\n".join([*good[:100], "hello", *good[100:], '{"device_id": "d"}']))
    with (
        subscriber(commands, tmp_path / "subscriber.log"),
        closing(sqlite3.connect(tmp_path / "readings.sqlite")) as rows,
    ):
        done = commands.run("stress-publish", "--file", str(file), "--json", check=False)
        count = "SELECT count(*) FROM sensor_readings"
        eventually(lambda: rows.execute(count).fetchone() == (500,), "all rows")

    assert done.exit_code == 5
    assert (done.data["sent"], done.data["acked"], done.data["bad_lines"], done.data["run"]) == (500, 500, 2, None)
    assert [(bad["line"], bad["reason"]) for bad in done.data["first_bad_lines"]] == [(101, "json"), (502, "metric")]
    assert "line 101, 502" in done.envelope["errors"][0]["message"]


@pytest.mark.parametrize(
    "words",
    [
        ("--verify", "--file", "x"),
        ("--speed", "2"),
        ("--run", "a b"),
        ("--messages", "0"),
        ("--file", "/no/such/file"),
        ("--file", "x", "--rate", "5"),
        ("--rate", "0"),
        ("--payload-size", "1MiB"),
    ],
)
def test_what_makes_no_sense_is_exit_code_2(tmp_path: Path, words: tuple[str, ...], mosquitto: Mosquitto) -> None:
    done = commands_for(mosquitto.port, tmp_path).run("stress-publish", *words, check=False)
    assert done.exit_code == 2, done.err
    assert "Traceback" not in done.err


def test_audit_refuses_what_is_no_run_id_and_tells_of_a_missing_database(tmp_path: Path) -> None:
    commands = commands_for(free_port(), tmp_path)
    assert commands.run("audit", "a'b", check=False).exit_code == 2
    assert commands.run("audit", "r1", check=False).exit_code == 4
