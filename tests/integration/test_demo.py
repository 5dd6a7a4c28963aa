"""`demo` for real: its own broker and database, small loads, and every way to stop it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sensorsync.demo.service import find_program
from tests.conftest import need
from tests.services import DatabaseServer, Mosquitto, eventually

RECORDING = Path(__file__).parents[2] / "examples" / "data" / "kjfk-2013.jsonl"

pytestmark = pytest.mark.timeout(540)


def words(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sensorsync", "demo", *arguments]


def environment(temp: Path) -> dict[str, str]:
    """What would mislead a demo that took the user's settings: a broker and a database that are not there."""
    return {**os.environ, "TMPDIR": str(temp), "MQTT_BROKER": "no.example:1", "DB_HOST": "no.example"}


def demo(temp: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """Run it with `--json`; return its envelope, which is all of stdout, and stderr."""
    done = subprocess.run(
        words(*arguments, "--json"), env=environment(temp), cwd=temp, capture_output=True, text=True, check=False
    )
    envelope: dict[str, Any] = json.loads(done.stdout)
    assert envelope["exit_code"] == done.returncode, done.stderr
    return envelope, done.stderr


def processes_with(text: str) -> list[int]:
    """Process ids whose command line or working folder has `text` in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                where = str((entry / "cwd").readlink())
            except OSError:
                continue
            if text in line or text in where:
                found.append(int(entry.name))
    return found


@contextmanager
def running(temp: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A demo that is in the middle of its load."""
    process = subprocess.Popen(
        words("--messages", "2000000", *arguments, "--json"),
        env=environment(temp),
        cwd=temp,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "publishing" in line:
                break
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("broker", ["embedded", "mosquitto"])
@pytest.mark.parametrize("database", ["sqlite", "mysql"])
def test_every_message_of_the_load_arrives_and_the_audit_says_so(tmp_path: Path, broker: str, database: str) -> None:
    if broker == "embedded":
        pytest.importorskip("iotcore")
    else:
        need(Mosquitto)
    if database == "mysql" and not find_program("mariadbd", "mysqld"):
        need(DatabaseServer)
    flags = ["--broker", broker, *(["--mysql"] if database == "mysql" else [])]
    envelope, _ = demo(tmp_path, "--messages", "3000", *flags)
    assert envelope["ok"]
    assert envelope["errors"] == []
    data = envelope["data"]
    assert (data["published"], data["acked"], data["stored"]) == (3000, 3000, 3000)
    assert (data["missing"], data["parked"]) == (0, 0)
    assert data["redelivered"] >= 0
    assert data["stored_per_second"] > 0
    assert list(tmp_path.iterdir()) == [], "the folder is gone"
    eventually(lambda: not processes_with(str(tmp_path)), "no process is left")


def test_a_kept_folder_can_be_queried_and_audited_again(tmp_path: Path) -> None:
    pytest.importorskip("iotcore")
    data = demo(tmp_path, "--messages", "500", "--keep")[0]["data"]
    assert Path(data["folder"]).parent == tmp_path
    with closing(sqlite3.connect(data["database"])) as database:
        assert database.execute("SELECT count(*) FROM sensor_readings").fetchone() == (500,)
    again = subprocess.run(
        [sys.executable, "-m", "sensorsync", "--config", data["config"], "audit", data["run"], "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(again.stdout)["data"]["stored"] == 500


def test_a_recording_goes_the_same_way(tmp_path: Path) -> None:
    pytest.importorskip("iotcore")
    recording = tmp_path / "some.jsonl"
    lines = RECORDING.read_text().splitlines(keepends=True)[:700]
    recording.write_text("".join(lines + lines[:5]))
    envelope, _ = demo(tmp_path, "--file", "some.jsonl")
    assert envelope["ok"], envelope["errors"]
    data = envelope["data"]
    assert (data["published"], data["acked"], data["stored"], data["missing"]) == (705, 705, 705, 0)
    assert data["redelivered"] >= 5, "five lines are in it twice"


def test_a_bad_line_of_a_recording_is_reported_and_the_others_arrive(tmp_path: Path) -> None:
    pytest.importorskip("iotcore")
    recording = tmp_path / "some.jsonl"
    recording.write_text("".join([*RECORDING.read_text().splitlines(keepends=True)[:20], "no reading\n"]))
    envelope, _ = demo(tmp_path, "--file", "some.jsonl")
    assert envelope["exit_code"] == 5
    assert [error["code"] for error in envelope["errors"]] == ["bad_lines"]
    assert (envelope["data"]["stored"], envelope["data"]["missing"]) == (20, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_and_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    pytest.importorskip("iotcore")
    with running(tmp_path) as process:
        assert len(processes_with(str(tmp_path))) > 2
        process.send_signal(number)
        output, log = process.communicate(timeout=120)
    envelope = json.loads(output)
    assert envelope["errors"][0]["code"] == "interrupted"
    assert process.returncode == 5
    assert "Traceback" not in log
    eventually(lambda: not processes_with(str(tmp_path)), "no process is left")
    assert list(tmp_path.iterdir()) == []


def test_all_its_processes_die_with_it_when_it_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("iotcore")
    with running(tmp_path) as process:
        process.kill()
        eventually(lambda: not processes_with(str(tmp_path)), "no process is left")


def test_a_subscriber_that_dies_is_reported_at_once(tmp_path: Path) -> None:
    pytest.importorskip("iotcore")
    with running(tmp_path) as process:
        subscriber = [pid for pid in processes_with(str(tmp_path)) if _is(pid, b"subscribe")]
        for pid in subscriber:
            os.kill(pid, signal.SIGKILL)
        output, _ = process.communicate(timeout=120)
    error = json.loads(output)["errors"][0]
    assert "`sensorsync subscribe` was ended by signal 9" in error["message"]
    assert "--keep" in error["hint"]


def _is(pid: int, command: bytes) -> bool:
    return command in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


@pytest.mark.parametrize(
    ("arguments", "message", "make"),
    [
        (["--broker", "emqx"], "no broker 'emqx'", None),
        (["--messages", "0"], "--messages", None),
        (["--file", "missing.jsonl"], "missing.jsonl can't be read: No such file", None),
        (["--file", "empty.jsonl"], "empty.jsonl holds no reading", lambda folder: (folder / "empty.jsonl").touch()),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: list[str], message: str, make: Callable[[Path], None] | None
) -> None:
    if make:
        make(tmp_path)
    envelope, _ = demo(tmp_path, *arguments)
    assert envelope["exit_code"] == 2
    assert message in envelope["errors"][0]["message"]
    assert envelope["errors"][0]["hint"]
