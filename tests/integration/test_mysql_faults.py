"""Trap 9 on a real server: every kind of refusal is told from every kind of outage."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from sensorsync.pipeline.contract import BatchRejected, SinkMisconfigured, SinkUnavailable
from sensorsync.storage.mysql.connect import ConnectionPool
from sensorsync.storage.mysql.sink import MySqlSink
from sensorsync.storage.mysql.statement import ConflictPolicy
from sensorsync.storage.mysql.store import MySqlStore
from tests.conftest import Database
from tests.integration.mysql_bench import migrated, run_as_root, settings_for
from tests.rows import ARRIVAL, reading, readings
from tests.services import DatabaseServer, eventually, is_oracle_mysql

pytestmark = pytest.mark.database


@pytest.fixture
def store(database: Database) -> Iterator[MySqlStore]:
    with migrated(database.server, database.name, lock_wait_timeout=1) as made:
        yield made


# -- rows that can never be stored ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "mysql", "mariadb"),
    [
        ({"ts": "2026-02-30 00:00:00.000000"}, 1292, 1292),
        ({"payload": "{"}, 3140, 4025),
        ({"unit": "x" * 65}, 1406, 1406),
        ({"payload": "[" * 150 + "]" * 150}, 3157, 4025),
    ],
)
def test_a_bad_value_is_refused_by_its_number(
    store: MySqlStore, change: dict[str, Any], mysql: int, mariadb: int
) -> None:
    sink = store.create_sink(0)
    with pytest.raises(BatchRejected) as error:
        sink.write([reading(1, **change)])
    assert error.value.errno == (mysql if is_oracle_mysql() else mariadb)
    sink.close()


def test_a_row_without_a_partition_waits_for_it_unless_its_time_is_absurd(
    store: MySqlStore, database: Database
) -> None:
    run_as_root(
        database.server,
        "ALTER TABLE sensor_readings PARTITION BY RANGE COLUMNS (ts) (PARTITION p0 VALUES LESS THAN ('2026-01-02'))",
        database=database.name,
    )
    sink = store.create_sink(0)
    with pytest.raises(SinkUnavailable) as kept:
        sink.write([reading(1)])
    with pytest.raises(BatchRejected) as refused:
        sink.write([reading(1, ts="2226-01-02 03:04:05.000000")])
    with pytest.raises(BatchRejected):  # a batch is bisected first
        sink.write(readings(3))
    assert (kept.value.errno, refused.value.errno) == (1526, 1526)
    sink.close()


def test_a_long_batch_is_split_below_max_allowed_packet_and_one_long_row_is_refused() -> None:
    with DatabaseServer(options=["--max-allowed-packet=1M"]) as server, migrated(server) as store:
        sink = store.create_sink(0)
        long = [reading(n, payload=f'"{"x" * 200_000}"') for n in range(12)]
        assert sink.write(long) == 12
        with pytest.raises(BatchRejected) as error:
            sink.write([*long, reading(99, payload=f'"{"x" * 2**20}"')])
        assert error.value.errno == 1153
        assert store.count_run_rows("run") == 12
        assert sink.write([reading(50)]) == 1, "the connection is still good"
        sink.close()


# -- the server cannot now -----------------------------------------------------------------------------------------------


def test_a_lock_that_is_not_granted_is_retried_and_nothing_of_the_batch_stays(
    store: MySqlStore, database: Database
) -> None:
    sink = store.create_sink(0)
    sink.write([reading(5)])
    with database.connect(autocommit=False) as other, other.cursor() as cursor:
        cursor.execute("UPDATE sensor_readings SET value = -1")
        with pytest.raises(SinkUnavailable) as error:
            sink.write(readings(10))
        assert (error.value.errno, error.value.retry_immediately) == (1205, True)
        other.rollback()
    assert store.count_run_rows("run") == 1
    assert sink.write(readings(10)) == 9
    sink.close()


def test_what_a_failed_transaction_did_is_rolled_back_before_anything_else(
    store: MySqlStore, database: Database
) -> None:
    """A lock wait undoes only its own statement (1205); the next BEGIN would commit the ones before it."""
    sink = MySqlSink(ConnectionPool(settings_for(database.server, database.name, lock_wait_timeout=1)))
    sink.write([reading(9)])
    sink._max_rows = 5
    with database.connect(autocommit=False) as other, other.cursor() as cursor:
        cursor.execute("UPDATE sensor_readings SET value = -1")
        with pytest.raises(SinkUnavailable) as locked:
            sink.write(readings(10))
        assert locked.value.errno == 1205
        other.rollback()
    assert sink.write([reading(77)]) == 1
    sink._max_rows = 5
    with pytest.raises(BatchRejected):
        sink.write([*readings(9), reading(90, payload="{")])
    assert sink.write([reading(78)]) == 1
    assert store.count_run_rows("run") == 3
    sink.close()


def test_an_interrupted_write_leaves_nothing_and_no_connection_out_of_step(
    store: MySqlStore, database: Database
) -> None:
    class Interrupted(MySqlSink):
        def _execute(self, cursor: Any, statement: bytes, *, no_op: bool) -> int:
            super()._execute(cursor, statement, no_op=no_op)
            raise KeyboardInterrupt

    sink = Interrupted(ConnectionPool(settings_for(database.server, database.name)))
    with pytest.raises(KeyboardInterrupt):
        sink.write(readings(3))
    assert sink._lease is None
    assert store.count_run_rows("run") == 0


def test_a_deadlock_is_distinguished_from_everything_else(database: Database) -> None:
    outcome: list[SinkUnavailable] = []
    with migrated(database.server, database.name) as store:
        sink = store.create_sink(0)
        sink.write(readings(50))

        def write() -> None:
            try:
                sink.write([reading(0), reading(49)])
            except SinkUnavailable as error:
                outcome.append(error)

        # Given: another program changes many rows and holds the last one, so that the server picks us as the victim.
        with database.connect(autocommit=False) as other, other.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            cursor.execute("UPDATE sensor_readings SET value = -1 WHERE value > 20")
            thread = threading.Thread(target=write)
            thread.start()
            waits = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
            eventually(lambda: run_as_root(database.server, waits) == [(1,)], "we wait for the other's lock")
            # When: it wants the row that we hold.
            cursor.execute("UPDATE sensor_readings SET value = -1 WHERE value = 20")
            thread.join(10)
            other.rollback()
        # Then
        assert [(error.errno, error.retry_immediately) for error in outcome] == [(1213, True)]
        assert sink.write([reading(0), reading(49)]) == 0
        sink.close()


@pytest.mark.skipif(is_oracle_mysql(), reason="MySQL has a time limit for SELECT only")
def test_a_statement_that_takes_too_long_is_tried_in_smaller_pieces(store: MySqlStore, database: Database) -> None:
    run_as_root(
        database.server,
        "CREATE TRIGGER slow BEFORE INSERT ON sensor_readings FOR EACH ROW SET NEW.unit = IF(SLEEP(0.02), 'x', 'y')",
        database=database.name,
    )
    sink = MySqlSink(ConnectionPool(settings_for(database.server, database.name)))
    sink.write([reading(999)])
    assert sink._lease is not None
    with sink._lease.connection.cursor() as cursor:
        cursor.execute("SET SESSION max_statement_time = 0.3")
    refused: list[SinkUnavailable] = []
    stored = 0
    while not stored and len(refused) < 8:  # 40 rows take 0.8 s, 20 take 0.4 s; fewer may, on a busy machine
        try:
            stored = sink.write(readings(40))
        except SinkUnavailable as error:
            refused.append(error)
    assert {(error.errno, error.retry_immediately) for error in refused} == {(1969, True)}
    assert (len(refused) >= 2, stored) == (True, 40)
    sink.close()


def test_a_read_only_server_keeps_the_batch_and_is_left_for_a_new_connection(
    private_database_server: DatabaseServer,
) -> None:
    server = private_database_server
    with migrated(server) as store:
        sink = store.create_sink(0)
        sink.write(readings(1))
        run_as_root(server, "SET GLOBAL read_only = ON")
        with pytest.raises(SinkUnavailable) as error:
            sink.write(readings(2))
        assert error.value.errno == 1290
        assert "primary" in str(error.value)
        run_as_root(server, "SET GLOBAL read_only = OFF")
        assert sink.write(readings(2)) == 1
        sink.close()


def test_a_server_without_a_free_connection_is_an_outage(private_database_server: DatabaseServer) -> None:
    server = private_database_server
    with migrated(server) as store:
        run_as_root(server, "SET GLOBAL max_connections = 10")
        taken: list[pymysql.connections.Connection[Any]] = []
        with contextlib.suppress(pymysql.OperationalError):
            while len(taken) < 20:
                taken.append(server.connect(user=server.user, password=server.password))
        assert len(taken) < 20
        sink = store.create_sink(0)
        with pytest.raises(SinkUnavailable) as error:
            sink.write(readings(1))
        assert error.value.errno == 1040
        for connection in taken:
            connection.close()
        eventually(lambda: stored(sink), "the server has a connection again")
        sink.close()


def stored(sink: Any) -> bool:
    try:
        sink.write(readings(1))
    except SinkUnavailable:
        return False
    return True


# -- a person has to mend something --------------------------------------------------------------------------------------


def test_a_dropped_table_is_no_row_s_fault(store: MySqlStore, database: Database) -> None:
    sink = store.create_sink(0)
    sink.write(readings(1))
    run_as_root(database.server, "DROP TABLE sensor_readings", database=database.name)
    with pytest.raises(SinkMisconfigured) as error:
        sink.write(readings(2))
    assert (error.value.errno, error.value.hint) == (1146, "run `sensorsync init-db`")
    with pytest.raises(SinkMisconfigured):
        store.check_schema()
    run_as_root(database.server, "DELETE FROM sensorsync_migrations", database=database.name)
    database.prepare()
    assert sink.write(readings(2)) == 2
    sink.close()


def test_a_dropped_column_is_no_row_s_fault(store: MySqlStore, database: Database) -> None:
    sink = store.create_sink(0)
    sink.write(readings(1))
    run_as_root(database.server, "ALTER TABLE sensor_readings DROP COLUMN unit", database=database.name)
    with pytest.raises(SinkMisconfigured) as error:
        sink.write(readings(2))
    assert error.value.errno == 1054
    with pytest.raises(SinkMisconfigured) as error:
        sink.write(readings(2))  # on a new connection
    assert error.value.errno == 1054
    sink.close()


def test_an_unknown_database_is_an_error_with_the_command_to_run(database: Database) -> None:
    nowhere = "sensorsync_nowhere"
    database.server.allow("owner", name=nowhere)
    database.prepare()
    # Who has no rights in a database does not learn whether it exists.
    for role, errno in (("owner", 1049), ("subscriber", 1044)):
        sink = MySqlSink(ConnectionPool(database.server.settings(role, nowhere)))
        with pytest.raises(SinkMisconfigured) as error:
            sink.write(readings(1))
        assert error.value.errno == errno
        assert "run `sensorsync init-db`" in (error.value.hint or "")


def test_a_password_that_was_changed_is_found_out_at_the_next_connect(
    private_database_server: DatabaseServer,
) -> None:
    server = private_database_server
    with migrated(server) as store:
        sink = store.create_sink(0)
        sink.write(readings(1))
        run_as_root(server, f"ALTER USER '{server.user}'@'%' IDENTIFIED BY 'another'")
        assert sink.write(readings(2)) == 1, "an open connection does not notice"
        sink.close()
        fresh = MySqlSink(ConnectionPool(settings_for(server)))
        with pytest.raises(SinkMisconfigured) as error:
            fresh.write(readings(3))
        assert error.value.errno == 1045
        assert "database.password" in (error.value.hint or "")
        assert server.password not in str(error.value)


def test_a_missing_right_names_the_grant(private_database_server: DatabaseServer) -> None:
    server = private_database_server
    with migrated(server):
        run_as_root(
            server,
            "CREATE USER 'reader'@'%' IDENTIFIED BY 'sesame'",
            f"GRANT SELECT ON `{server.name}`.* TO 'reader'@'%'",
        )
        sink = MySqlSink(ConnectionPool(settings_for(server, user="reader")))
        with pytest.raises(SinkMisconfigured) as error:
            sink.write(readings(1))
        assert error.value.errno == 1142
        assert "GRANT" in (error.value.hint or "")


# -- no warning of the server's is ever ours -----------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["first", "last", "newest"])
def test_our_statements_cause_no_warning(
    database: Database, policy: ConflictPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    counts: list[int] = []

    class Counting(MySqlSink):
        def _execute(self, cursor: Any, statement: bytes, *, no_op: bool) -> int:
            new = super()._execute(cursor, statement, no_op=no_op)
            counts.append(cursor.warning_count)
            return new

    with migrated(database.server, database.name), caplog.at_level(logging.WARNING):
        sink = Counting(ConnectionPool(settings_for(database.server, database.name)), policy)
        sink.write(readings(10))
        sink.write(readings(20, received_at=ARRIVAL + 1))
        sink.write([reading(3, received_at=ARRIVAL + 2, value=None, value_text="open", unit=None)])
        sink.close()
    assert counts == [0, 0, 0]
    assert caplog.messages == []


@pytest.mark.parametrize("policy", ["first", "last", "newest"])
def test_a_warning_of_the_servers_is_logged_once(
    database: Database, policy: ConflictPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    with migrated(database.server, database.name), caplog.at_level(logging.WARNING):
        sink = MySqlSink(ConnectionPool(settings_for(database.server, database.name)), policy)
        sink.write(readings(1))
        assert sink._lease is not None
        with sink._lease.connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_mode = ''")  # as a proxy between us and the server might
        for number in (1, 3):
            cut = [reading(number, unit="x" * 100), reading(number + 1), reading(0, received_at=ARRIVAL + number)]
            assert sink.write(cut) == 2
        sink.close()
    (message,) = caplog.messages
    assert "1265" in message
