"""A table that is changed or exchanged under a running writer, or is another one after a fail-over: no row is lost."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import pymysql
import pytest

from sensorsync.messages.reading import Column, TableRow, TargetTable
from sensorsync.pipeline.contract import Reading, Row, SinkMisconfigured, SinkUnavailable, SinkVerificationFailed
from sensorsync.storage.mysql import batch_verifier
from sensorsync.storage.mysql.sink import MySqlSink
from sensorsync.storage.mysql.statement import ConflictPolicy
from sensorsync.storage.mysql.store import MySqlStore
from sensorsync.storage.mysql.table_verifier import TableVerifier
from tests.conftest import Database
from tests.fakes import InThread, TcpProxy
from tests.integration.mysql_bench import PLAIN, run_as_root, settings_for
from tests.rows import ARRIVAL, reading
from tests.services import DatabaseServer

pytestmark = pytest.mark.database

MEMORY_COLUMNS = (
    "MODIFY value_text VARCHAR(100), MODIFY topic VARCHAR(100) NOT NULL, MODIFY payload VARCHAR(500) NOT NULL,"
    " MODIFY ts DATETIME(6) NOT NULL"
)


@dataclass(frozen=True)
class Change:
    """What somebody does to the table."""

    statements: tuple[str, ...]
    """`other` is a copy of the table without rows, which takes its place at the end."""
    words: str
    """What is said of it."""


CHANGES = {
    "second unique key": Change(
        ("ALTER TABLE other ADD UNIQUE KEY by_topic (topic(64))",), "has a second unique key, by_topic"
    ),
    "key without the event id": Change(
        ("ALTER TABLE other DROP PRIMARY KEY, ADD PRIMARY KEY (device_id, metric, ts)",),
        r"the primary key of sensor_readings is \(device_id, metric, ts\)",
    ),
    "_ci collation": Change(
        ("ALTER TABLE other MODIFY device_id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL",),
        "device_id has the collation utf8mb4_general_ci",
    ),
    "BLACKHOLE": Change(("ALTER TABLE other ENGINE = BLACKHOLE",), "the engine of sensor_readings is BLACKHOLE"),
    "MEMORY": Change(
        (f"ALTER TABLE other {MEMORY_COLUMNS}, ENGINE = MEMORY",), "the engine of sensor_readings is MEMORY"
    ),
    "column types": Change(
        ("ALTER TABLE other MODIFY value FLOAT, MODIFY ts DATETIME NOT NULL",), r"sensor_readings.ts is datetime, not"
    ),
}


def batch() -> list[Row]:
    """40 readings of one topic and one time, whose devices differ by case only, two by two."""
    devices = [f"{name}-{number}" for number in range(20) for name in ("dev", "DEV")]
    return [reading(number, device_id=device, ts="2026-01-02 03:04:05.000000") for number, device in enumerate(devices)]


def same_series() -> list[Row]:
    """40 readings that differ in their event id only."""
    return [reading(number, ts="2026-01-02 03:04:05.000000", value=float(number)) for number in range(40)]


def values(server: DatabaseServer, name: str) -> dict[bytes, float]:
    return dict(run_as_root(server, "SELECT event_id, value FROM sensor_readings", database=name))


def apply(server: DatabaseServer, name: str, change: Change) -> None:
    engines = {str(row[0]) for row in run_as_root(server, "SELECT engine FROM information_schema.engines")}
    if "BLACKHOLE" in change.statements[0] and "BLACKHOLE" not in engines:
        pytest.skip("this server has no BLACKHOLE")
    run_as_root(
        server,
        "CREATE TABLE other LIKE sensor_readings",
        *change.statements,
        "RENAME TABLE sensor_readings TO former, other TO sensor_readings",
        database=name,
    )


def undo(server: DatabaseServer, name: str) -> None:
    run_as_root(
        server,
        "RENAME TABLE sensor_readings TO discarded, former TO sensor_readings",
        "DROP TABLE discarded",
        database=name,
    )


def cut_connections(server: DatabaseServer) -> None:
    for (thread,) in run_as_root(server, "SELECT id FROM information_schema.processlist WHERE user LIKE 'sensorsync%'"):
        with contextlib.suppress(pymysql.OperationalError):
            run_as_root(server, f"KILL {thread}")


@pytest.fixture(params=get_args(ConflictPolicy))
def store(request: pytest.FixtureRequest, database: Database) -> Iterator[MySqlStore]:
    database.prepare()
    with contextlib.closing(MySqlStore(settings_for(database.server, database.name, conflict=request.param))) as made:
        yield made


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each transaction came after the interval."""
    monkeypatch.setattr(batch_verifier, "next_check", lambda _began, _interval: 0.0)


def kept(sink: MySqlSink, rows: Sequence[Row]) -> SinkVerificationFailed:
    """Write the rows as the writer does, until the table is said to be wrong."""
    for _ in range(3):
        try:
            sink.write(rows)
        except SinkVerificationFailed as error:
            return error
        except SinkUnavailable:
            continue  # the connection was cut
        break
    pytest.fail("the batch was acknowledged")


@pytest.mark.parametrize("when", ["running", "at a reconnect"])
@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.usefixtures("always")
def test_a_table_that_is_exchanged_keeps_every_batch_until_it_is_right_again(
    store: MySqlStore, database: Database, kind: str, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink = store.create_sink(0)
    assert isinstance(sink, MySqlSink)
    assert sink.write([reading(999, value=0.5)]) == 1
    # When
    apply(database.server, database.name, CHANGES[kind])
    if when == "at a reconnect":
        cut_connections(database.server)
    # Then: whatever goes there is kept, batch after batch.
    with caplog.at_level(logging.INFO):
        for rows in (batch(), same_series(), [reading(1)], [reading(2, device_id="RUN-1")]):
            error = kept(sink, rows)
        with pytest.raises(SinkUnavailable):
            store.check_writable()
        with pytest.raises(SinkMisconfigured):
            store.check_schema()
    assert error.hint is not None
    assert caplog.text.count("is not as it was verified") == 1
    assert re.search(CHANGES[kind].words, str(error))
    # And: it heals by itself.
    undo(database.server, database.name)
    assert sink.write(batch()) == 40
    assert sink.write([*batch(), *same_series()]) == 40
    found = values(database.server, database.name)
    assert found[reading(999).event_id] == 0.5
    assert len(found) == 41  # the two batches have the same ids
    sink.close()


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("ADD UNIQUE KEY by_topic (topic(64))", batch()),
        ("ADD UNIQUE KEY by_unit (unit)", same_series()),
        ("DROP PRIMARY KEY, ADD PRIMARY KEY (device_id, metric, ts)", same_series()),
        (
            "MODIFY device_id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL",
            [reading(999, device_id="RUN-1")],
        ),
        (
            "MODIFY device_id VARCHAR(128) CHARACTER SET latin1 COLLATE latin1_swedish_ci NOT NULL",
            [reading(999, device_id="RUN-1")],
        ),
    ],
)
def test_within_the_interval_the_upsert_itself_refuses_a_row_that_meets_another_one(
    store: MySqlStore, database: Database, monkeypatch: pytest.MonkeyPatch, statement: str, rows: list[Row]
) -> None:
    """No check is due: what the server answers to the upsert is all that there is."""
    monkeypatch.setattr(batch_verifier, "TABLE_INTERVAL", 3600.0)
    sink = store.create_sink(0)
    sink.write([reading(998, ts="2026-01-02 03:04:06.000000", unit="x", topic="other", device_id="other")])
    first = reading(999, value=0.5, ts="2026-01-02 03:04:05.000000")
    assert sink.write([first]) == 1
    run_as_root(database.server, f"ALTER TABLE sensor_readings {statement}", database=database.name)
    with pytest.raises(SinkVerificationFailed) as refused:
        sink.write([row._replace(ts=first.ts, received_at=ARRIVAL + 60) for row in rows if isinstance(row, Reading)])
    assert isinstance(refused.value.__cause__, pymysql.Error)
    assert refused.value.__cause__.args[0] == 1690
    assert values(database.server, database.name)[first.event_id] == 0.5
    assert len(values(database.server, database.name)) == 2
    sink.close()


DIFFERENCES = {
    "DROP PRIMARY KEY, ADD PRIMARY KEY (device_id(4), metric, ts, event_id)": r"primary key of sensor_readings is \(device_id\(4\),",
    "MODIFY unit VARCHAR(64) CHARACTER SET ascii": "unit has the character set ascii",
    "MODIFY topic TEXT CHARACTER SET latin1 NOT NULL": "topic has the character set latin1",
    "DROP COLUMN value, ADD COLUMN value DOUBLE AS (1.5) VIRTUAL": "value is a generated column",
}


@pytest.mark.usefixtures("always")
def test_a_difference_that_would_refuse_good_rows_keeps_them(database: Database) -> None:
    database.prepare()
    with contextlib.closing(MySqlStore(settings_for(database.server, database.name))) as store:
        sink = store.create_sink(0)
        good = [reading(1), reading(1, device_id="run-2", unit="Ω", topic="sensors/Ω")]
        sink.write([reading(0)])
        for alter, words in DIFFERENCES.items():
            apply(database.server, database.name, Change((f"ALTER TABLE other {alter}",), words))
            for rows in (good, good[:1], good[1:]):
                assert re.search(words, str(kept(sink, rows))), alter  # type: ignore[arg-type]
            undo(database.server, database.name)
        assert sink.write(good) == 2
        sink.close()


@pytest.mark.usefixtures("always")
def test_rows_are_not_written_into_a_temporary_table_that_hides_the_real_one(database: Database) -> None:
    database.prepare()
    run_as_root(
        database.server,
        f"GRANT CREATE TEMPORARY TABLES ON `{database.name}`.* TO '{settings_for(database.server).user}'@'%'",
    )
    with contextlib.closing(MySqlStore(settings_for(database.server, database.name))) as store:
        sink = MySqlSink(store._pool)
        sink.write([reading(0)])
        assert sink._lease is not None
        with sink._lease.connection.cursor() as cursor:
            cursor.execute("SHOW CREATE TABLE sensor_readings")
            definition = str(cursor.fetchall()[0][1])
            cursor.execute(definition.replace("CREATE TABLE", "CREATE TEMPORARY TABLE"))
        assert "temporary table" in str(kept(sink, [reading(1)]))
        assert sink.write([reading(1)]) == 1, "on another connection"
        assert len(values(database.server, database.name)) == 2
        sink.close()


@pytest.mark.usefixtures("always")
def test_a_definition_that_is_not_utf8_refuses_no_row(database: Database) -> None:
    """MariaDB writes the default of a binary column as it is."""
    database.prepare()
    with contextlib.closing(MySqlStore(settings_for(database.server, database.name))) as store:
        sink = store.create_sink(0)
        sink.write([reading(0)])
        alter = "ALTER TABLE sensor_readings ADD COLUMN mark VARBINARY(4) DEFAULT X'FFFE41'"
        run_as_root(database.server, alter, database=database.name)
        assert sink.write([reading(1)]) == 1
        sink.close()
        assert store.create_sink(0).write([reading(2)]) == 1, "on a new connection, too"


def test_an_answer_about_the_table_that_the_driver_cannot_read_blames_no_row(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.prepare()
    with contextlib.closing(MySqlStore(settings_for(database.server, database.name))) as store:
        sink = store.create_sink(0)
        for error in (UnicodeDecodeError("utf-8", b"x", 0, 1, "no"), TypeError(), pymysql.InternalError("Packet")):
            with monkeypatch.context() as patched:
                patched.setattr(TableVerifier, "verify", lambda *_, error=error: (_ for _ in ()).throw(error))
                with pytest.raises(SinkUnavailable):
                    sink.write([reading(0)])
        assert sink.write([reading(0)]) == 1
        sink.close()


def test_a_redelivery_still_finds_its_row(store: MySqlStore) -> None:
    sink = store.create_sink(0)
    rows: list[Row] = [*batch(), reading(99, device_id="it's \\ °"), reading(98, device_id="")]
    assert [sink.write(rows), sink.write(rows), sink.write([*rows, reading(97)])] == [42, 0, 1]
    sink.close()


STATES = TargetTable("states", (Column("k", "text"), Column("v", "number")), key=("k",))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("engine", ["BLACKHOLE", "MEMORY"])
def test_a_table_of_the_user_s_own_is_verified_in_the_same_way(database: Database, engine: str) -> None:
    database.prepare()
    create = "(k VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY, v DOUBLE)"
    run_as_root(
        database.server,
        f"CREATE TABLE states {create}",
        f"GRANT SELECT, INSERT, UPDATE ON states TO '{database.user}'@'%'",
        database=database.name,
    )
    with contextlib.closing(MySqlStore(settings_for(database.server, database.name), (STATES,))) as store:
        store.check_schema()
        sink = store.create_sink(0)
        assert isinstance(sink, MySqlSink)
        assert sink.write([TableRow(STATES, ("a", 1.0), None), reading(1)]) == 2
        try:
            run_as_root(
                database.server,
                f"CREATE TABLE other {create} ENGINE = {engine}",
                "RENAME TABLE states TO former, other TO states",
                database=database.name,
            )
        except pymysql.MySQLError as error:
            pytest.skip(str(error))
        refused = kept(sink, [TableRow(STATES, ("b", 1.0), None), reading(2)])
        assert "states" in str(refused)
        assert "no transactions" in str(refused)
        assert len(values(database.server, database.name)) == 1, "the transaction is one"
        with pytest.raises(SinkUnavailable):
            store.check_writable()
        sink.close()


def test_a_server_whose_table_differs_gets_nothing_after_a_fail_over(
    database: Database, private_database_server: DatabaseServer
) -> None:
    """The connection breaks, and the address leads to another server from now on."""
    standby = private_database_server
    standby.prepare(database.name)
    database.prepare()
    with InThread(TcpProxy(database.port)) as proxy:
        settings = settings_for(database.server, database.name, port=proxy.port, tls=PLAIN)
        with contextlib.closing(MySqlStore(settings)) as store:
            sink = store.create_sink(0)
            assert isinstance(sink, MySqlSink)
            assert sink.write([reading(1)]) == 1
            for kind in ("key without the event id", "MEMORY", "BLACKHOLE"):
                change = CHANGES[kind]
                with contextlib.suppress(pytest.skip.Exception):
                    apply(standby, database.name, change)
                    proxy.do(lambda p: setattr(p, "target", standby.port))
                    proxy.do(lambda p: p.cut())
                    kept(sink, same_series())
                    undo(standby, database.name)
            assert values(standby, database.name) == {}
            # And: a server whose table is right is taken.
            assert sink.write(same_series()) == 40
            sink.close()


def test_a_definition_that_is_known_costs_one_query(store: MySqlStore, database: Database) -> None:
    sink = store.create_sink(0)
    assert isinstance(sink, MySqlSink)
    sink.write([reading(1)])
    assert sink._lease is not None
    asked: list[Any] = []

    class Counting(pymysql.cursors.Cursor):
        def execute(self, query: Any, args: Any = None) -> int:
            asked.append(query)
            return super().execute(query, args)

    with sink._lease.connection.cursor(Counting) as cursor:
        sink._verification._verifier.verify(cursor, None, "here")
    assert asked == ["SHOW CREATE TABLE `sensor_readings`"]
    sink.close()


def test_partitions_and_columns_of_one_s_own_are_no_difference(store: MySqlStore, database: Database) -> None:
    sink = store.create_sink(0)
    sink.write([reading(1)])
    run_as_root(
        database.server,
        "ALTER TABLE sensor_readings ADD COLUMN note TEXT NULL, ADD KEY by_time (ts)",
        database=database.name,
    )
    sink.close()
    assert store.create_sink(1).write([reading(1), reading(2)]) == 1
