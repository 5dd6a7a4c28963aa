"""Tables of the user's own on a real server: what information_schema says of them, to accounts that may see little."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pymysql
import pytest

from sensorsync.messages.reading import Column, TableRow, TargetTable
from sensorsync.pipeline.contract import BatchRejected, SinkMisconfigured, SinkUnavailable, SinkVerificationFailed
from sensorsync.storage.mysql.store import MySqlStore
from tests.conftest import Database, DatabaseServer, empty_database
from tests.rows import readings
from tests.target_tables import ALARMS, STATE, Ground, state, statements_in

pytestmark = pytest.mark.database

Open = Callable[..., MySqlStore]

TABLE = TargetTable(
    "t", (Column("k", "text"), Column("at", "time"), Column("v", "number"), Column("n", "integer")), key=("k", "at")
)
ROW = TableRow(TABLE, ("a", "2026-01-02 03:04:05.000000", 21.5, 7), None)
COLLATED = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
COLUMNS = f"k VARCHAR(64) {COLLATED} NOT NULL, at DATETIME(6) NOT NULL, v DOUBLE, n INT"


@pytest.fixture(scope="module")
def database(database_server: DatabaseServer) -> Iterator[Database]:
    """One for all tests of this module: each makes its tables anew."""
    with empty_database(database_server) as made:
        yield made


@pytest.fixture(scope="module")
def prepared(database: Database) -> Ground:
    return Ground(database)


@pytest.fixture
def ground(prepared: Ground) -> Ground:
    prepared.run(
        "DROP VIEW IF EXISTS seen", "DROP TABLE IF EXISTS t, T2, machine_state, alarms", "DELETE FROM sensor_readings"
    )
    return prepared


@pytest.fixture
def opened(database: Database) -> Iterator[Open]:
    stores: list[MySqlStore] = []

    def store(*tables: TargetTable, role: str = "subscriber") -> MySqlStore:
        stores.append(MySqlStore(database.settings(role), tables))
        return stores[-1]

    yield store
    for one in stores:
        one.close()


@pytest.mark.parametrize(
    "create",
    [
        f"CREATE TABLE t ({COLUMNS}, PRIMARY KEY (k, at))",
        f"CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, {COLUMNS}, UNIQUE KEY u (at, k))",
        f"CREATE TABLE t (id CHAR(36) NOT NULL DEFAULT (UUID()) PRIMARY KEY, {COLUMNS}, UNIQUE KEY (k, at))",
        f"CREATE TABLE t ({COLUMNS}, day DATE AS (CAST(at AS DATE)) STORED, PRIMARY KEY (k, at, n), UNIQUE (k, at))",
        f"CREATE TABLE t ({COLUMNS}, note VARCHAR(9) UNIQUE, e VARCHAR(9) NOT NULL DEFAULT '', PRIMARY KEY (k, at))",
        f"CREATE TABLE t ({COLUMNS}, PRIMARY KEY (k, at), KEY (v)) PARTITION BY KEY (k) PARTITIONS 3",
        f"CREATE TABLE T2 ({COLUMNS}, PRIMARY KEY (k, at)) COMMENT 'another'",
    ],
    ids=["primary", "auto-increment", "uuid", "wider", "null", "partitions", "name"],
)
def test_a_table_that_is_fit_takes_rows(ground: Ground, opened: Open, create: str) -> None:
    table = TargetTable("T2", TABLE.columns, TABLE.key) if "T2" in create else TABLE
    ground.run(create)
    ground.allow(table)
    store = opened(table)
    store.check_schema()
    store.check_writable()
    assert store.durability_warnings() == opened().durability_warnings()
    sink = store.create_sink(0)
    assert [sink.write([ROW._replace(table=table)]), sink.write([ROW._replace(table=table)])] == [1, 0]
    assert opened(table, role="owner").schema_state().ready


@pytest.mark.parametrize(
    ("create", "words"),
    [
        (
            f"CREATE TABLE t ({COLUMNS})",
            [r"no unique key of exactly the columns (k, at): run ALTER TABLE `t` ADD UNIQUE KEY"],
        ),
        (
            f"CREATE TABLE t ({COLUMNS}, PRIMARY KEY (k))",
            ["no unique key of exactly", "another unique key, PRIMARY (k)"],
        ),
        (
            f"CREATE TABLE t ({COLUMNS}, UNIQUE KEY u (k(9), at))",
            ["no unique key of exactly", "another unique key, u (k, at)"],
        ),
        (f"CREATE TABLE t ({COLUMNS}, PRIMARY KEY (k, at), UNIQUE KEY u (n))", ["another unique key, u (n)"]),
        (
            f"CREATE TABLE t ({COLUMNS}, odd INT AS (n % 2) STORED, PRIMARY KEY (k, at), UNIQUE KEY u (odd))",
            ["another unique key, u (odd)"],
        ),
        (
            "CREATE TABLE t (k VARCHAR(9), at DATETIME(6), n INT)",
            ["no column v", "t.k is in the key", "t.at is in the key", "no unique"],
        ),
        (
            "CREATE TABLE t (k TEXT, at BIGINT, v FLOAT)",
            ["t.k is text, which a unique key", "t.at is bigint", "no column n", "no unique"],
        ),
        ("CREATE TABLE t (v DOUBLE, n INT)", ["no column k", "no column at", "no unique key"]),
        (
            f"CREATE TABLE t ({COLUMNS}, site INT NOT NULL, PRIMARY KEY (k, at))",
            ["t.site is not mapped but demands a value"],
        ),
        (
            f"CREATE TABLE t ({COLUMNS}, PRIMARY KEY (k, at)) ENGINE = MyISAM",
            ["the engine of t is MyISAM, which has no transactions: run ALTER TABLE `t` ENGINE = InnoDB"],
        ),
        (
            f"CREATE TABLE t ({COLUMNS.replace('DOUBLE', 'INT')}, PRIMARY KEY (k, at))",
            ["t.v is int", "numbers with a fraction"],
        ),
        ("CREATE TABLE other (i INT)", ["the table t does not exist, or this account may not see it"]),
    ],
)
def test_a_table_that_is_not_fit_is_refused_and_the_statements_fix_it(
    ground: Ground, opened: Open, create: str, words: Sequence[str]
) -> None:
    # Given
    ground.run(create)
    if "TABLE t " in create:
        ground.allow(TABLE)
    store = opened(TABLE)
    # When
    with pytest.raises(SinkMisconfigured) as refused:
        store.check_schema()
    # Then
    differences = opened(TABLE, role="owner").schema_state().target_table_differences
    assert f": {'; '.join(differences)}" in str(refused.value)
    assert all(word in str(refused.value) for word in words)
    assert "sensorsync alters no table of yours" in (refused.value.hint or "")
    # When
    ground.run(*statements_in(differences))
    ground.allow(TABLE)
    # Then
    store.check_schema()
    assert store.create_sink(0).write([ROW]) == 1


@pytest.mark.parametrize(
    ("create", "words"),
    [
        (f"CREATE TABLE t ({COLUMNS}, w DOUBLE AS (v) STORED, PRIMARY KEY (k, at))", "t.w is a generated column"),
        (
            f"CREATE TABLE t ({COLUMNS}, w DOUBLE, id INT PRIMARY KEY, UNIQUE (k, at))",
            "t.id is not mapped but demands a value",
        ),
        ("CREATE VIEW seen AS SELECT 1 AS k", "seen is a view"),
    ],
)
def test_a_difference_that_no_statement_fixes_has_none(ground: Ground, opened: Open, create: str, words: str) -> None:
    ground.run(create)
    table = TargetTable("seen" if "VIEW" in create else "t", (*TABLE.columns, Column("w", "number")), TABLE.key)
    ground.allow(table)
    with pytest.raises(SinkMisconfigured) as refused:
        opened(table).check_schema()
    assert words in str(refused.value)
    (line,) = [line for line in opened(table, role="owner").schema_state().target_table_differences if words in line]
    assert ": run " not in line


def test_where_two_identities_could_count_as_one_there_is_a_warning(ground: Ground, opened: Open) -> None:
    ground.run(
        "CREATE TABLE t (k VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL, at DATETIME(3) NOT NULL,"
        " v DOUBLE, n INT, PRIMARY KEY (k, at))"
    )
    ground.allow(TABLE)
    store = opened(TABLE)
    store.check_schema()
    warnings = [line for line in store.durability_warnings() if line not in opened().durability_warnings()]
    assert len(warnings) == 2
    assert "t.k is in the key of its mapping and has the collation utf8mb4_general_ci" in warnings[0]
    assert "t.at is in the key of its mapping and is datetime(3): it keeps 3 of 6 digits" in warnings[1]
    rows = [ROW._replace(values=(name, *ROW.values[1:])) for name in ("a", "A")]
    assert store.create_sink(0).write(rows) == 1, "that is what the warning is about"


@pytest.mark.parametrize("key", [("at",), ("at", "k")], ids=["time", "time and text"])
@pytest.mark.parametrize("type_", ["TIMESTAMP(6)", "DATETIME(6)", "VARCHAR(26)"])
def test_a_row_that_meets_another_key_than_its_own_is_refused_and_changes_nothing(
    ground: Ground, opened: Open, type_: str, key: tuple[str, ...]
) -> None:
    ground.run(f"CREATE TABLE t ({COLUMNS.replace('DATETIME(6)', type_)}, PRIMARY KEY ({', '.join(key)}))")
    table = replace(TABLE, key=key, conflict="last")
    ground.allow(table)
    sink = opened(table).create_sink(0)
    assert sink.write([ROW._replace(table=table)]) == 1
    assert sink.write([ROW._replace(table=table)]) == 0, "its own key"
    before = ground.run("SELECT * FROM t")
    ground.run("ALTER TABLE t ADD UNIQUE KEY added (n)")
    with pytest.raises(SinkVerificationFailed, match="t has another unique key, added") as refused:
        sink.write([TableRow(table, ("b", "2026-01-02 03:04:06.000000", 22.5, 7), None)])
    assert isinstance(refused.value.__cause__, pymysql.Error), "the upsert itself refused it"
    assert refused.value.__cause__.args[0] == (1365 if key == ("at",) else 1048)
    assert ground.run("SELECT * FROM t") == before


def test_an_account_that_may_not_see_the_table_gets_an_error_that_says_so(ground: Ground, opened: Open) -> None:
    ground.run(f"CREATE TABLE hidden ({COLUMNS}, PRIMARY KEY (k, at))")
    table = TargetTable("hidden", TABLE.columns, TABLE.key)
    with pytest.raises(SinkMisconfigured, match="hidden does not exist, or this account may not see it"):
        opened(table).check_schema()
    ground.allow(table)
    opened(table).check_schema()


def test_a_used_up_auto_increment_swallows_no_row(ground: Ground, opened: Open) -> None:
    """MySQL hands out the last number again: the new row meets the last one, and a no-op upsert would store nothing and say so."""
    ground.run(
        f"CREATE TABLE t (id TINYINT AUTO_INCREMENT PRIMARY KEY, {COLUMNS}, UNIQUE KEY u (k, at))",
        "ALTER TABLE t AUTO_INCREMENT = 127",
    )
    ground.allow(TABLE)
    sink = opened(TABLE).create_sink(0)
    rows = [ROW._replace(values=(name, *ROW.values[1:])) for name in "abc"]
    assert sink.write(rows[:1]) == 1
    with pytest.raises(SinkUnavailable, match="the AUTO_INCREMENT of t is used up"):
        sink.write(rows[1:2])
    with pytest.raises((BatchRejected, SinkUnavailable)):  # a batch is halved first
        sink.write(rows[1:])
    assert ground.run("SELECT k, n FROM t") == [("a", 7)]
    ground.run("ALTER TABLE t MODIFY id BIGINT AUTO_INCREMENT")
    assert sink.write(rows) == 2


def test_what_the_server_refuses_of_a_target_table_is_about_the_row(ground: Ground, opened: Open) -> None:
    ground.make(STATE)
    ground.run("ALTER TABLE machine_state MODIFY celsius FLOAT, MODIFY pieces TINYINT, MODIFY note VARCHAR(8)")
    sink = opened(STATE).create_sink(0)
    changes: list[dict[str, object]] = [
        {"celsius": 1e300},
        {"pieces": 300},
        {"note": "nine long"},
        {"document": "{not JSON"},
        {"at": "2026-13-45 99:00:00.000000"},
        {"machine": "m" * 129},
        {"message": b"x" * 17},
    ]
    for change in changes:
        with pytest.raises(BatchRejected) as refused:
            sink.write([state(1), state(2, **change), *readings(3)])  # type: ignore[arg-type]
        assert refused.value.errno is not None, change
        assert ground.count("machine_state", "sensor_readings") == [0, 0]
    assert sink.write([state(1), *readings(3)]) == 4


def test_a_row_without_a_partition_waits_for_one_only_if_its_time_is_a_likely_one(ground: Ground, opened: Open) -> None:
    ground.run(
        f"CREATE TABLE t ({COLUMNS}, PRIMARY KEY (k, at)) PARTITION BY RANGE COLUMNS (at)"
        " (PARTITION p VALUES LESS THAN ('2000-01-01'))"
    )
    ground.allow(TABLE)
    sink = opened(TABLE).create_sink(0)
    for at, outcome in ((now(), SinkUnavailable), ("2999-01-01 00:00:00.000000", BatchRejected)):
        with pytest.raises(outcome) as refused:
            sink.write([TableRow(TABLE, ("a", at, 1.0, 1), None)])
        assert refused.value.errno == 1526  # type: ignore[attr-defined]


def test_a_row_whose_partition_no_time_will_bring_holds_up_nothing(ground: Ground, opened: Open) -> None:
    ground.run(f"CREATE TABLE t ({COLUMNS}, PRIMARY KEY (k, at, n)) PARTITION BY LIST (n) (PARTITION p VALUES IN (1))")
    table = replace(TABLE, key=("k", "at", "n"))
    ground.allow(table)
    sink = opened(table).create_sink(0)
    with pytest.raises(BatchRejected) as refused:
        sink.write([TableRow(table, ("a", now(), 1.0, 7), now())])
    assert refused.value.errno == 1526
    assert sink.write([TableRow(table, ("a", now(), 1.0, 1), now())]) == 1


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def test_a_batch_of_long_rows_is_several_statements_and_one_transaction(ground: Ground, opened: Open) -> None:
    ground.make(STATE)
    ground.run("ALTER TABLE machine_state MODIFY note LONGTEXT")
    sink = opened(STATE).create_sink(0)
    rows = [state(number, note=str(number) * 3_000_000) for number in range(5)]
    bad = state(9, document="{not JSON", note="x" * 6_000_000)
    with pytest.raises(BatchRejected):
        sink.write([*rows, bad])
    assert ground.count("machine_state") == [0]
    assert [sink.write(rows), sink.write(rows)] == [5, 0]


def test_the_grants_of_target_tables_are_enough_and_no_more(ground: Ground, database: Database) -> None:
    ground.make(STATE, ALARMS)
    for role in ("subscriber", "replayer"):
        with closing(MySqlStore(database.settings(role), (STATE, ALARMS))) as store:
            store.check_schema()
            store.check_writable()
            assert store.create_sink(0).write([state(1), *readings(1)]) == (2 if role == "subscriber" else 0)
        for statement in ("DELETE FROM alarms", "DROP TABLE alarms", "ALTER TABLE alarms ADD COLUMN i INT"):
            assert refused(database, role, statement)
    with closing(MySqlStore(database.settings("owner"), (STATE, ALARMS))) as store:
        assert store.schema_state().ready
        assert store.migrate().state.ready
    for statement in ("DELETE FROM alarms", "DROP TABLE alarms", "INSERT INTO alarms SELECT * FROM alarms"):
        assert refused(database, "owner", statement)


def refused(database: Database, role: str, statement: str) -> bool:
    """Whether the server refuses this account the statement for want of a right."""
    account = {"user": f"sensorsync_{role}", "password": database.server.password}
    with database.connect(**account) as connection, connection.cursor() as cursor:
        try:
            cursor.execute(statement)
        except Exception as error:  # noqa: BLE001 - its number is looked at
            return bool(error.args[0] == 1142)
    return False
