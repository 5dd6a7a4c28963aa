"""`init-db` and `dlq inspect` from the command line to what is printed, without any server."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sensorsync.cli import main
from sensorsync.deadletters import DeadLetters
from sensorsync.pipeline.contract import DeadLetter
from sensorsync.storage.sqlite import retention
from sensorsync.storage.sqlite.store import SqliteStore
from tests.rows import readings


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


def test_init_db_creates_the_file_and_reports_its_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init-db", "--check"]) == 5
    shown = capsys.readouterr()
    assert "pending   0001_sensor_readings" in shown.out
    assert "The database does not exist" in shown.err
    assert not (tmp_path / "readings.sqlite").exists()
    assert main(["init-db"]) == 0
    assert "applied   0001_sensor_readings" in capsys.readouterr().out
    assert main(["init-db", "--check"]) == 0
    assert "The schema is up to date." in capsys.readouterr().out


def test_init_db_does_not_call_a_table_that_differs_up_to_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init-db"]) == 0
    with closing(sqlite3.connect(tmp_path / "readings.sqlite")) as connection:
        connection.execute("ALTER TABLE sensor_readings DROP COLUMN topic")
    capsys.readouterr()
    assert main(["init-db"]) == 5
    shown = capsys.readouterr()
    assert "differs   sensor_readings has no column topic" in shown.out
    # It said so above that line.
    assert "Nothing to do" not in shown.out


def test_old_readings_of_a_file_are_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init-db"]) == 0
    now = datetime.now(UTC).replace(tzinfo=None)
    devices = readings(40)
    with closing(SqliteStore(tmp_path / "readings.sqlite")) as store:
        ages = [timedelta(days=age) for age in (0, 89.9, 90.1, 20_000, -20_000)]
        store.create_sink(0).write(
            [one._replace(ts=(now - age).isoformat(" ", "microseconds")) for one in devices for age in ages]
        )
    capsys.readouterr()
    assert main(["init-db", "--retain", "90d", "--check"]) == 5
    assert "to delete 80 readings from before 20" in capsys.readouterr().out
    assert main(["init-db", "--retain", "90d"]) == 0
    assert "deleted   80 readings from before 20" in capsys.readouterr().out
    with closing(sqlite3.connect(tmp_path / "readings.sqlite")) as connection:
        found = connection.execute("SELECT count(*), count(DISTINCT device_id) FROM sensor_readings").fetchone()
    assert found == (120, len({one.device_id for one in devices}))
    assert main(["init-db", "--retain", "90d", "--json"]) == 0
    assert data(capsys)["upkeep"]["deleted"] == 0


def test_many_old_readings_are_deleted_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["init-db"]) == 0
    monkeypatch.setattr(retention, "_PIECE", 3)
    with closing(SqliteStore(tmp_path / "readings.sqlite")) as store:
        store.create_sink(0).write(
            [one._replace(device_id="d", ts=f"2001-01-01 00:00:00.{one.event_id[-1]:06}") for one in readings(10)]
        )
        assert store.maintain(timedelta(days=1), partitions=False, dry_run=False).deleted == 10


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--partitions"], "SQLite has no partitions"),
        (["--retain", "90"], "write 1d or more"),
        (["--retain", "999999999d"], "write 1d or more"),
        (["--retain", "x"], "not a duration"),
        (["--sql", "--partitions"], "go with --check or alone"),
        (["--grants", "--retain", "90d"], "go with --check or alone"),
        (["--yes"], "--yes goes with"),
        (["--yes", "--check", "--retain", "90d"], "--yes goes with"),
    ],
)
def test_impossible_maintenance_is_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    assert main(["init-db", *words]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "readings.sqlite").exists()


def test_readings_without_a_time_are_not_removed_by_surprise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SENSORSYNC_READING__MISSING_TS", "epoch")
    assert main(["init-db", "--retain", "90d"]) == 2
    assert "filed under 1970" in capsys.readouterr().err
    assert main(["init-db", "--retain", "90d", "--check"]) == 0
    assert "wants --yes: reading.missing_ts is epoch" in capsys.readouterr().out
    assert main(["init-db", "--retain", "90d", "--yes"]) == 0


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 5, 1), ("y", 0, 0)])
def test_on_a_terminal_it_asks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    code: int,
    left: int,
) -> None:
    monkeypatch.setenv("SENSORSYNC_READING__MISSING_TS", "epoch")
    assert main(["init-db"]) == 0
    with closing(SqliteStore(tmp_path / "readings.sqlite")) as store:
        store.create_sink(0).write([readings(1)[0]._replace(ts="1970-01-01 00:00:00.000000")])
    terminal = io.StringIO(f"{answer}\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    assert main(["init-db", "--retain", "90d"]) == code
    assert "Go on?" in capsys.readouterr().err
    with closing(sqlite3.connect(tmp_path / "readings.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM sensor_readings").fetchone() == (left,)


def test_init_db_prints_the_sql_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init-db", "--sql"]) == 0
    printed = capsys.readouterr().out
    connection = sqlite3.connect(tmp_path / "readings.sqlite")
    connection.executescript(printed)
    connection.close()
    assert main(["init-db", "--check", "--json"]) == 0
    assert data(capsys)["ready"] is True


@pytest.mark.parametrize("flags", [["--check", "--sql"], ["--check", "--grants"], ["--sql", "--grants"]])
def test_check_sql_and_grants_exclude_one_another(capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    assert main(["init-db", *flags]) == 2
    assert "exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--grants", "--flavor", "mysql"], "SQLite knows no accounts"),
        (["--flavor", "mysql"], "need --grants"),
        (["--host", "10.%"], "need --grants"),
        (["--grants", "--flavor", "oracle"], "'mysql', 'mariadb'"),
    ],
)
def test_grants_that_cannot_be_are_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    assert main(["init-db", *words]) == 2
    assert complaint in capsys.readouterr().err


@pytest.fixture
def mysql_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORSYNC_DATABASE__DRIVER", "mysql")
    monkeypatch.setenv("DB_PORT", "1")  # where nobody answers


def grants(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["init-db", "--grants", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("mysql_settings")
def test_the_grants_of_a_named_flavor_need_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    mysql, mariadb = (grants(capsys, "--flavor", flavor) for flavor in ("mysql", "mariadb"))
    assert "GRANT SYSTEM_VARIABLES_ADMIN, " in mysql
    assert "SUPER" not in mysql
    assert "GRANT SUPER, " in mariadb
    assert "SYSTEM_VARIABLES_ADMIN" not in mariadb
    assert "REQUIRE SSL" not in mysql + mariadb
    assert main(["init-db", "--grants"]) == 4, "else it is asked"


@pytest.mark.usefixtures("mysql_settings")
def test_the_grants_go_by_the_database_the_host_and_the_demand_for_tls(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_NAME", "my_`%db")
    monkeypatch.setenv("SENSORSYNC_DATABASE__TLS__MODE", "required")
    printed = grants(capsys, "--flavor", "mysql", "--host", "10.0.%")
    assert r"GRANT CREATE ON `my\_``\%db`.* TO 'sensorsync_owner'@'10.0.%';" in printed
    assert "GRANT SELECT, INSERT, UPDATE ON `my_``%db`.sensor_readings TO 'sensorsync_replayer'@'10.0.%';" in printed
    assert printed.count(" REQUIRE SSL;\n") == printed.count("CREATE USER") == 4


@pytest.mark.usefixtures("mysql_settings")
@pytest.mark.parametrize("host", ["", "'", "%' IDENTIFIED BY ''; --", "a\nb", "x" * 256])
def test_an_invalid_host_is_never_put_into_a_statement(capsys: pytest.CaptureFixture[str], host: str) -> None:
    assert main(["init-db", "--grants", "--flavor", "mysql", "--host", host]) == 2
    shown = capsys.readouterr()
    assert "--host" in shown.err
    assert shown.out == ""


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


def test_a_file_that_is_not_a_box_ends_with_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "box.sqlite").write_text("no database at all " * 100)
    assert main(["dlq", "inspect"]) == 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Cannot open the dead-letter box" in shown.err
    assert "Traceback" not in shown.err


def test_several_differences_of_target_tables_are_listed_once_and_then_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = {"machine": {"topic": "{machine}"}, "celsius": {"path": "t", "type": "number"}}
    table = {"name": "machine_state", "key": ["machine"], "columns": columns}
    mapping = {"name": "a", "topic": "plant/{machine}", "table": table}
    monkeypatch.setenv("SENSORSYNC_MAPPINGS", json.dumps([mapping]))
    with sqlite3.connect(tmp_path / "readings.sqlite") as file:
        file.execute("CREATE TABLE machine_state (machine TEXT)")
    file.close()
    assert main(["init-db"]) == 5
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines() if "machine_state" in line].count("differs") == 2
    assert err.splitlines()[0].endswith(" (and 1 more).")
