"""What is SQLite's own: its result codes, and its one writer at a time. The rest is in the contract suite."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sensorsync.messages.reading import Reading, ReadingDecoder
from sensorsync.pipeline.contract import BatchRejected, SinkMisconfigured, SinkUnavailable
from sensorsync.storage.sqlite.faults import sink_error
from sensorsync.storage.sqlite.schema import schema_script
from sensorsync.storage.sqlite.sink import SqliteSink
from sensorsync.storage.sqlite.store import SqliteStore
from tests.rows import reading, readings


@pytest.fixture
def sink(path: Path) -> Iterator[SqliteSink]:
    sink = SqliteSink(path)
    yield sink
    sink.close()


def error(code: int) -> sqlite3.Error:
    made = sqlite3.OperationalError("words")
    made.sqlite_errorcode = code
    return made


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, SinkUnavailable),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, SinkUnavailable),
        (sqlite3.SQLITE_LOCKED, SinkUnavailable),
        (sqlite3.SQLITE_FULL, SinkUnavailable),
        (sqlite3.SQLITE_IOERR_FSYNC, SinkUnavailable),
        (sqlite3.SQLITE_NOMEM, SinkUnavailable),
        (sqlite3.SQLITE_CONSTRAINT_CHECK, BatchRejected),
        (sqlite3.SQLITE_CONSTRAINT_NOTNULL, BatchRejected),
        (sqlite3.SQLITE_TOOBIG, BatchRejected),
        (sqlite3.SQLITE_ERROR, SinkMisconfigured),
        (sqlite3.SQLITE_NOTADB, SinkMisconfigured),
        (sqlite3.SQLITE_CORRUPT, SinkMisconfigured),
        (sqlite3.SQLITE_READONLY, SinkMisconfigured),
        (sqlite3.SQLITE_CANTOPEN, SinkMisconfigured),
        (12345, SinkUnavailable),
    ],
)
def test_a_result_code_decides_and_its_extended_form_too(code: int, kind: type[Exception]) -> None:
    assert type(sink_error(error(code), "x.sqlite")) is kind


def test_every_commit_is_fsynced(sink: SqliteSink) -> None:
    sink.write(readings(1))
    assert sink._connection is not None
    assert sink._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert sink._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_while_another_program_writes_the_batch_is_kept(sink: SqliteSink, path: Path) -> None:
    sink.write(readings(1))
    assert sink._connection is not None
    sink._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SinkUnavailable) as busy:
        sink.write(readings(5))
    assert busy.value.errno == sqlite3.SQLITE_BUSY
    other.execute("ROLLBACK")
    other.close()
    assert sink.write(readings(5)) == 4


def test_a_file_that_is_full_keeps_the_batch(sink: SqliteSink) -> None:
    sink.write(readings(1))
    assert sink._connection is not None
    pages = sink._connection.execute("PRAGMA page_count").fetchone()[0]
    sink._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(SinkUnavailable) as full:
        sink.write(readings(1000))
    assert full.value.errno == sqlite3.SQLITE_FULL
    assert sink.write(readings(2)) == 1, "a new connection has no such bound"


def test_a_missing_file_is_not_made_by_writing(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.sqlite"
    with pytest.raises(SinkMisconfigured) as error:
        SqliteSink(path).write([reading()])
    assert "init-db" in (error.value.hint or "")
    assert not path.exists()


def test_a_table_that_differs_is_found_out(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("ALTER TABLE sensor_readings DROP COLUMN revised_at")
    other.close()
    with pytest.raises(SinkMisconfigured, match="no column revised_at"):
        SqliteStore(path).check_schema()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are somebody's notes " * 100)
    for ask in (SqliteStore(path).check_schema, SqliteStore(path).migrate):
        with pytest.raises(SinkMisconfigured) as error:
            ask()
        assert "database.path" in (error.value.hint or "")


_DIGITS = st.text("0123456789", max_size=9).map(lambda digits: f".{digits}" if digits else "")
_ZONES = st.just("Z") | st.builds("{}{:02}:{:02}".format, st.sampled_from("+-"), st.integers(0, 23), st.integers(0, 59))


@given(st.datetimes().map(lambda moment: moment.isoformat(timespec="seconds")), _DIGITS, _ZONES)
@example(moment="9999-12-31T23:59:59", fraction=".999999", zone="Z")
@example(moment="1000-01-01T00:00:00", fraction="", zone="Z")
@example(moment="2024-02-29T23:59:59", fraction=".9999999", zone="+00:01")
def test_every_time_that_the_decoder_lets_through_is_stored(moment: str, fraction: str, zone: str) -> None:
    """datetime() of SQLite rounds the last microseconds of the year 9999 to the year 10000, which it does not know."""
    text = f"{moment}{fraction}{zone}"
    payload = json.dumps({"event_id": "e", "device_id": "d", "metric": "m", "ts": text, "value": 1}).encode()
    decoded = ReadingDecoder().decode(payload, "t", 0.0)
    if not isinstance(decoded, Reading):
        return
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema_script())
        row = (decoded.device_id, decoded.metric, decoded.ts, decoded.event_id, decoded.payload)
        connection.execute(
            "INSERT INTO sensor_readings (device_id, metric, ts, event_id, topic, received_at, payload)"
            " VALUES (?, ?, ?, ?, 't', '', ?)",
            row,
        )


@pytest.mark.parametrize(
    "ts",
    [
        "2026-02-30 00:00:00.000000",
        "2026-01-02 24:00:00.000000",
        "2026-01-02T03:04:05.000000",
        "2026-01-02 03:04:05",
        "2026-01-02 03:04:05.00000x",
        "2026-01-02 03:04:05.0000000",
        "now",
    ],
)
def test_what_is_no_time_is_refused(sink: SqliteSink, ts: str) -> None:
    with pytest.raises(BatchRejected):
        sink.write([reading(ts=ts)])


def test_a_table_that_was_renamed_is_created_again(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE sensor_readings DROP COLUMN unit")
        with pytest.raises(SinkMisconfigured, match="no column unit") as caught:
            SqliteStore(path).check_schema()
        assert "alter the table by hand, or rename it" in str(caught.value.hint)
        connection.execute("ALTER TABLE sensor_readings RENAME TO former")
    store = SqliteStore(path)
    assert not store.schema_state().ready
    done = store.migrate()
    assert (done.newly_applied, done.state.ready) == (store.schema_state().applied_migrations, True)
    assert store.migrate().newly_applied == ()
