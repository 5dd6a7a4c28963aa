"""`init-db` and `dlq inspect` from the command line to what is printed, without any server."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from sensorsync.cli import main
from sensorsync.deadletters import DeadLetters
from sensorsync.pipeline.contract import DeadLetter


@pytest.fixture(autouse=True)
def sqlite_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENSORSYNC_DATABASE__DRIVER", "sqlite")
    monkeypatch.setenv("SENSORSYNC_DATABASE__PATH", str(tmp_path / "readings.sqlite"))
    monkeypatch.setenv("SENSORSYNC_DEAD_LETTERS__PATH", str(tmp_path / "box.sqlite"))


def data(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    envelope = json.loads(capsys.readouterr().out)
    found: dict[str, Any] = envelope["data"]
    return found


def fill(path: Path) -> None:
    box = DeadLetters(path)
    box.open()
    box.park(
        [
            DeadLetter("a/\x1b[31mred", b"\x1b]0;owned\x07\xff" + b"x" * 500, 1, None, "json", None, "bad\nline", 1.5),
            DeadLetter("b", b'{"a": 1}', 1, {"k": b"v"}, "database", 1406, "Data too long", 2.5),
        ]
    )
    box.close()


def test_init_db_makes_the_file_and_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init-db", "--check"]) == 5
    shown = capsys.readouterr()
    assert "pending   0001_sensor_readings" in shown.out
    assert "The database does not exist" in shown.err
    assert not (tmp_path / "readings.sqlite").exists()
    assert main(["init-db"]) == 0
    assert "applied   0001_sensor_readings" in capsys.readouterr().out
    assert main(["init-db", "--check"]) == 0
    assert "The schema is up to date." in capsys.readouterr().out


def test_init_db_prints_the_sql_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init-db", "--sql"]) == 0
    printed = capsys.readouterr().out
    connection = sqlite3.connect(tmp_path / "readings.sqlite")
    connection.executescript(printed)
    connection.close()
    assert main(["init-db", "--check", "--json"]) == 0
    assert data(capsys)["ready"] is True


def test_check_and_sql_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init-db", "--check", "--sql"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_a_box_that_is_not_there_is_empty_and_stays_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dlq", "inspect"]) == 0
    assert "No dead letters" in capsys.readouterr().out
    assert main(["dlq", "inspect", "--json"]) == 0
    assert data(capsys)["total"] == 0
    assert list(tmp_path.glob("box.sqlite*")) == []


def test_letters_are_listed_and_no_byte_of_them_drives_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "box.sqlite")
    assert main(["dlq", "inspect"]) == 0
    shown = capsys.readouterr().out
    assert "2 dead letters in" in shown
    assert "database 1406" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert r"a/\x1b[31mred" in shown


def test_the_envelope_has_counts_and_the_beginning_of_each_payload(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "box.sqlite")
    assert main(["dlq", "inspect", "--json", "--limit", "1"]) == 0
    found = data(capsys)
    assert found["total"] == 2
    assert {(count["reason"], count["state"], count["letters"]) for count in found["counts"]} == {
        ("json", "parked", 1),
        ("database", "parked", 1),
    }
    (latest,) = found["letters"]
    assert latest["payload"] == '{"a": 1}'
    assert latest["payload_truncated"] is False
    assert latest["first_seen"] == "1970-01-01T00:00:02.500Z"
    assert latest["properties"] == {"k": {"base64": "dg=="}}


def test_a_file_that_is_no_box_ends_with_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "box.sqlite").write_text("no database at all " * 100)
    assert main(["dlq", "inspect"]) == 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Cannot open the dead-letter box" in shown.err
    assert "Traceback" not in shown.err
