"""The database file is deleted, rotated or changed while writers have it open: nothing is acknowledged that is not in the file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sensorsync.messages.reading import Column, TableRow, TargetTable
from sensorsync.pipeline.contract import Row, SinkMisconfigured, SinkUnavailable, SinkVerificationFailed
from sensorsync.storage.sqlite.sink import SqliteSink
from sensorsync.storage.sqlite.store import SqliteStore
from tests.rows import reading, readings


@pytest.fixture
def sinks(path: Path) -> Iterator[list[SqliteSink]]:
    """Two writers that have the file open."""
    made = [SqliteSink(path), SqliteSink(path)]
    for number, sink in enumerate(made):
        sink.write([reading(number)])
    yield made
    for sink in made:
        sink.close()


def remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def remove_and_make(path: Path) -> None:
    remove(path)
    SqliteStore(path).migrate()


def remove_database_only(path: Path) -> None:
    path.unlink()
    path.with_name(path.name + "-wal").unlink()
    SqliteStore(path).migrate()


def rotate(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).rename(path.with_name(f"old{suffix}"))
    SqliteStore(path).migrate()


def remove_log(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


def remove_log_and_index(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()
    path.with_name(path.name + "-shm").unlink()


def ids(path: Path) -> set[bytes]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT event_id FROM sensor_readings")}


def write_until_stored(sinks: Sequence[SqliteSink], rows: Sequence[Row]) -> list[str]:
    """As the writers do: the same batch again until it is acknowledged. Returns the reasons why it was kept."""
    reasons: list[str] = []
    for sink in sinks:
        for _ in range(3):
            try:
                sink.write(rows)
            except SinkUnavailable as error:
                reasons.append(str(error))
            else:
                break
        else:
            pytest.fail(f"kept for ever: {reasons}")
    return reasons


@pytest.mark.parametrize("change", [remove_and_make, remove_database_only, rotate], ids=lambda change: change.__name__)
def test_what_is_acknowledged_is_in_the_file_that_has_the_name(
    path: Path, sinks: list[SqliteSink], change: Callable[[Path], None]
) -> None:
    change(path)
    reasons = write_until_stored(sinks, readings(10))
    assert ids(path) == {row.event_id for row in readings(10)}
    assert len(reasons) == 2
    assert all("removed or replaced" in reason for reason in reasons)


def test_a_rotated_file_has_all_that_was_acknowledged_before(path: Path, sinks: list[SqliteSink]) -> None:
    """Also where only the database file was moved, and its rows were in the write-ahead log that stayed behind."""
    old = path.with_name("old")
    path.rename(old)
    with pytest.raises(SinkUnavailable):
        sinks[0].write(readings(10))
    assert ids(old) == {row.event_id for row in readings(2)}


@pytest.mark.parametrize("change", [remove_log, remove_log_and_index], ids=lambda change: change.__name__)
def test_a_removed_log_takes_nothing_with_it(
    path: Path, sinks: list[SqliteSink], change: Callable[[Path], None]
) -> None:
    change(path)
    reasons = write_until_stored(sinks, readings(10))
    assert reasons
    for sink in sinks:
        sink.close()
    assert ids(path) == {row.event_id for row in readings(10)}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("suffixes", [[""], ["", "-wal"]])
def test_into_a_file_that_was_emptied_in_its_place_nothing_is_acknowledged(
    path: Path, sinks: list[SqliteSink], suffixes: list[str]
) -> None:
    # As by `logrotate` with copytruncate. The inode is the same, and SQLite has the pages in its cache.
    sinks.pop().close()
    for suffix in suffixes:
        os.truncate(path.with_name(path.name + suffix), 0)
    for number in range(4):
        with pytest.raises((SinkUnavailable, SinkVerificationFailed)):
            sinks[0].write([reading(number + 10)])
    remove_and_make(path)
    write_until_stored(sinks, readings(10))
    assert ids(path) == {row.event_id for row in readings(10)}


def test_a_log_that_is_removed_while_the_file_is_opened_gets_no_rows(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, other = SqliteSink(path), SqliteSink(path)
    other.write([reading(0)])
    open_file = SqliteSink._open

    def open_and_lose(opening: SqliteSink) -> sqlite3.Connection:
        connection = open_file(opening)
        connection.execute("SELECT count(*) FROM sensor_readings").fetchone()  # opens the log
        remove_log(path)
        return connection

    with monkeypatch.context() as patched:
        patched.setattr(SqliteSink, "_open", open_and_lose)
        with pytest.raises(SinkUnavailable, match="removed or replaced while it was opened"):
            sink.write([reading(1)])
    write_until_stored([other, sink], readings(3))
    sink.close()
    other.close()
    assert ids(path) == {row.event_id for row in readings(3)}


def test_while_there_is_no_file_the_batch_is_kept(path: Path, sinks: list[SqliteSink]) -> None:
    remove(path)
    with pytest.raises(SinkUnavailable, match="removed or replaced"):
        sinks[0].write(readings(10))
    for _ in range(2):
        with pytest.raises(SinkVerificationFailed):
            sinks[0].write(readings(10))
    sqlite3.connect(path).close()
    with pytest.raises(SinkVerificationFailed, match="no such table"):
        sinks[0].write(readings(10))
    SqliteStore(path).migrate()
    assert write_until_stored(sinks[:1], readings(10)) == []
    assert len(ids(path)) == 10


def test_a_file_that_is_missing_at_the_first_write_is_a_wrong_configuration(tmp_path: Path) -> None:
    with pytest.raises(SinkMisconfigured):
        SqliteSink(tmp_path / "none.sqlite").write(readings(1))


@pytest.mark.parametrize("moment", ["BEGIN", "COMMIT"])
def test_a_file_that_goes_in_the_middle_of_a_transaction_takes_no_row_with_it(
    path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Connection(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
            done = super().execute(sql, parameters)
            if sql.startswith(moment) and armed:
                armed.clear()
                remove_and_make(path)
            return done

    def connect(file: Path) -> sqlite3.Connection:
        return sqlite3.connect(file, isolation_level=None, factory=Connection)

    monkeypatch.setattr("sensorsync.storage.sqlite.sink.connect", connect)
    armed: list[bool] = []
    sink = SqliteSink(path)
    sink.write(readings(1))
    armed.append(True)
    with pytest.raises(SinkUnavailable):
        sink.write(readings(5))
    assert ids(path) == set()
    assert sink.write(readings(5)) == 5
    assert len(ids(path)) == 5
    sink.close()


# -- the tables in it ------------------------------------------------------------------------------------------------------------


RENAME = "ALTER TABLE sensor_readings RENAME COLUMN {} TO {}"


@pytest.mark.parametrize(
    ("statement", "undo", "words"),
    [
        ("CREATE UNIQUE INDEX u ON sensor_readings (topic)", "DROP INDEX u", "a second unique key, u"),
        (RENAME.format("unit", "units"), RENAME.format("units", "unit"), "no column unit"),
        ("CREATE UNIQUE INDEX t ON states (v)", "DROP INDEX t", "states has another unique key"),
    ],
)
def test_a_table_that_changes_under_a_writer_keeps_its_batches(
    path: Path, statement: str, undo: str, words: str
) -> None:
    table = TargetTable("states", (Column("k", "text"), Column("v", "number")), key=("k",))

    def run(sql: str) -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(sql)

    run("CREATE TABLE states (k TEXT NOT NULL PRIMARY KEY, v REAL)")
    sink = SqliteSink(path, "first", (table,))
    rows: list[Row] = [TableRow(table, ("a", 1.0), None), reading(1)]
    assert sink.write(rows) == 2
    run(statement)
    for _ in range(2):
        with pytest.raises(SinkVerificationFailed, match=words):
            sink.write([TableRow(table, ("b", 1.0), None), *readings(3)])
    assert len(ids(path)) == 1
    run(undo)
    assert sink.write([TableRow(table, ("b", 1.0), None), *readings(3)]) == 3
    sink.close()


def test_a_key_that_ignores_case_is_refused(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'sensor_readings'").fetchone()
        connection.execute("DROP TABLE sensor_readings")
        connection.execute(sql.replace("device_id   TEXT", "device_id   TEXT COLLATE NOCASE", 1))
    store = SqliteStore(path)
    with pytest.raises(SinkMisconfigured, match="device_id has the collation NOCASE"):
        store.check_schema()
    with pytest.raises(SinkVerificationFailed):
        store.create_sink(0).write(readings(1))
