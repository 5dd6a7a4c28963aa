"""Whether a table of a file is fit for a mapping, and what is said about one that is not."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from sensorsync.messages.reading import Column, TableRow, TargetTable
from sensorsync.pipeline.contract import SinkMisconfigured
from sensorsync.storage.sqlite.store import SqliteStore
from tests.target_tables import ALARMS, STATE, statements_in

TABLE = TargetTable("t", (Column("k", "text"), Column("at", "time"), Column("v", "number")), key=("k", "at"))
ROW = TableRow(TABLE, ("a", "2026-01-02 03:04:05.000000", 21.5), None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "readings.sqlite"
    SqliteStore(path).migrate()
    return path


def run(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def differences(path: Path, *tables: TargetTable) -> tuple[str, ...]:
    return SqliteStore(path, target_tables=tables or (TABLE,)).schema_state().target_table_differences


FIT = "CREATE TABLE t (k TEXT, at TEXT, v REAL, PRIMARY KEY (k, at))"


@pytest.mark.parametrize(
    "create",
    [
        FIT,
        "CREATE TABLE t (K TEXT, At DATETIME, v NUMERIC, UNIQUE (at, k))",
        "CREATE TABLE t (k, at, v)",
        "CREATE TABLE t (k VARCHAR(9), at TIMESTAMP, v DOUBLE, PRIMARY KEY (k, at)) WITHOUT ROWID",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, k TEXT, at TEXT, v REAL, UNIQUE (k, at))",
        "CREATE TABLE t (k TEXT, at TEXT, v REAL, note TEXT UNIQUE, n INT NOT NULL DEFAULT 1, PRIMARY KEY (k, at))",
        "CREATE TABLE t (k TEXT, at TEXT, v REAL, w REAL NOT NULL GENERATED ALWAYS AS (v * 2), PRIMARY KEY (k, at))",
        "CREATE TABLE t (k TEXT, at TEXT, v ANY, PRIMARY KEY (k, at)) STRICT",
    ],
)
def test_a_table_that_is_fit_takes_rows(path: Path, create: str) -> None:
    run(path, create, *(["CREATE UNIQUE INDEX i ON t (k, at)"] if "(k, at, v)" in create else []))
    store = SqliteStore(path, target_tables=(TABLE,))
    store.check_schema()
    sink = store.create_sink(0)
    assert [sink.write([ROW]), sink.write([ROW])] == [1, 0]
    sink.close()


@pytest.mark.parametrize(
    ("create", "words", "mendable"),
    [
        ("SELECT 1", "the table t does not exist", True),
        ("CREATE TABLE t (k TEXT, at TEXT, v REAL)", r"no unique key of exactly the columns \(k, at\)", True),
        ("CREATE TABLE t (k TEXT, at TEXT, v REAL, PRIMARY KEY (k))", "no unique key of exactly", False),
        ("CREATE TABLE t (k TEXT, at TEXT, PRIMARY KEY (k, at))", "t has no column v", True),
        ("CREATE TABLE t (k TEXT, v REAL)", "t has no column at", True),
        ("CREATE TABLE t (k TEXT, at INTEGER, v REAL, PRIMARY KEY (k, at))", "t.at is integer", False),
        ("CREATE TABLE t (k TEXT, at TEXT, v INT, PRIMARY KEY (k, at))", "t.v is int, which does not hold", False),
        ("CREATE TABLE t (k NUMERIC, at TEXT, v REAL, PRIMARY KEY (k, at))", "t.k is numeric", False),
        ("CREATE TABLE t (k TEXT, at TEXT, v TEXT, PRIMARY KEY (k, at))", "t.v is text, which does not hold", False),
        ("CREATE TABLE t (k TEXT, at TEXT, v REAL AS (1.5), PRIMARY KEY (k, at))", "t.v is a generated column", False),
        ("CREATE TABLE t (k TEXT, at TEXT, v REAL, n INT NOT NULL, PRIMARY KEY (k, at))", "t.n is not mapped", False),
        ("CREATE TABLE t (k TEXT, at TEXT, v REAL UNIQUE, PRIMARY KEY (k, at))", "another unique key", False),
        ("CREATE TABLE t (k TEXT, at TEXT, v INTEGER PRIMARY KEY, UNIQUE (k, at))", "another unique key", False),
        ("CREATE VIEW t AS SELECT 1 AS k", "t is a view", False),
    ],
)
def test_a_table_that_is_not_fit_is_refused_and_the_statements_fix_it(
    path: Path, create: str, words: str, mendable: bool
) -> None:
    # Given
    run(path, create)
    store = SqliteStore(path, target_tables=(TABLE,))
    # When
    with pytest.raises(SinkMisconfigured, match=words) as refused:
        store.check_schema()
    # Then
    assert "sensorsync alters no table of yours" in (refused.value.hint or "")
    assert not store.schema_state().ready
    statements = statements_in(differences(path))
    run(path, *statements)
    if mendable:
        assert statements
        store.check_schema()
        assert store.create_sink(0).write([ROW]) == 1


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("CREATE UNIQUE INDEX again ON t (v)", "another unique key, again (v)"),
        ("CREATE UNIQUE INDEX again ON t (k, at) WHERE v > 0", "another unique key, again (k, at)"),
        ("CREATE UNIQUE INDEX again ON t (lower(k))", "another unique key, again ()"),
    ],
)
def test_an_index_that_could_refuse_a_row_can_be_dropped(path: Path, index: str, words: str) -> None:
    run(path, FIT, index)
    (line,) = differences(path)
    assert words in line
    run(path, *statements_in([line]))
    assert differences(path) == ()


def test_a_key_that_knows_no_case_is_warned_about(path: Path) -> None:
    run(path, "CREATE TABLE t (k TEXT COLLATE NOCASE, at TEXT, v REAL, PRIMARY KEY (k, at))")
    store = SqliteStore(path, target_tables=(TABLE,))
    store.check_schema()
    (line,) = store.durability_warnings()
    assert "t.k is in the key of its mapping and has the collation NOCASE" in line
    assert SqliteStore(path).durability_warnings() == []


def test_init_db_makes_our_tables_and_leaves_the_user_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite"
    store = SqliteStore(path, target_tables=(STATE, ALARMS))
    done = store.migrate()
    assert (done.state.pending_migrations, done.state.differences, done.state.ready) == ((), (), False)
    run(path, *statements_in(done.state.target_table_differences))
    assert store.schema_state().ready
    assert store.migrate().newly_applied == ()
