"""Connections that break, lie and run out: traps 6 and 7, the pool, TLS, against a real server."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import pymysql
import pytest

from sensorsync.config import DatabaseSettings, DatabaseTlsSettings
from sensorsync.pipeline.contract import DeadLetter, Delivery, SinkMisconfigured, SinkUnavailable
from sensorsync.pipeline.writer import BatchWriter, RejectionBreaker
from sensorsync.runtime.backoff import Backoff
from sensorsync.storage.mysql import connect
from sensorsync.storage.mysql.connect import ConnectionPool
from sensorsync.storage.mysql.sink import MySqlSink
from sensorsync.storage.mysql.store import MySqlStore
from tests.conftest import Database
from tests.fakes import Fault, InThread, MySqlProxy, TcpProxy
from tests.integration.mysql_bench import PLAIN, migrated, run_as_root, settings_for
from tests.rows import reading, readings
from tests.services import Certificates, DatabaseServer, eventually, is_oracle_mysql

pytestmark = pytest.mark.database


def through(database: Database, port: int, **changes: Any) -> MySqlSink:
    """A sink whose connections go through a proxy, in the clear."""
    return MySqlSink(ConnectionPool(settings_for(database.server, database.name, port=port, tls=PLAIN, **changes)))


# -- trap 6 ------------------------------------------------------------------------------------------------------------


class KilledAfterTheFirstStatement(MySqlSink):
    """Its connection is killed on the server between the two statements of its first transaction."""

    server: DatabaseServer
    executed = 0

    def _execute(self, cursor: Any, statement: bytes, *, no_op: bool) -> int:
        new = super()._execute(cursor, statement, no_op=no_op)
        self.executed += 1
        if self.executed == 1:
            run_as_root(self.server, f"KILL {cursor.connection.thread_id()}")
        return new


def test_a_connection_killed_within_a_transaction_never_leaves_half_of_it(database: Database) -> None:
    """Trap 6: DBUtils would run statement 2 again on a new connection, and the COMMIT would store only that."""
    with migrated(database.server, database.name) as store:
        # Given: a transaction of two statements.
        sink = KilledAfterTheFirstStatement(ConnectionPool(settings_for(database.server, database.name)))
        sink.server, sink._max_rows = database.server, 5
        # When
        with pytest.raises(SinkUnavailable) as error:
            sink.write(readings(10))
        # Then: nothing of it is there, and it was not the COMMIT that broke.
        assert store.count_run_rows("run") == 0
        assert not error.value.commit_outcome_unknown
        assert sink.executed == 1
        # And: the whole batch is stored by the next try, on a new connection.
        assert sink.write(readings(10)) == 10
        assert store.count_run_rows("run") == 10
        sink.close()


def kill_all(database: Database) -> None:
    """What `wait_timeout` and a firewall do to an idle connection."""
    ours = f"SELECT id FROM information_schema.processlist WHERE db = '{database.name}'"
    for (thread,) in run_as_root(database.server, ours):
        with contextlib.suppress(pymysql.OperationalError):  # it has gone since
            run_as_root(database.server, f"KILL {thread}")


def test_a_connection_killed_between_two_batches_is_replaced(database: Database) -> None:
    with migrated(database.server, database.name) as store:
        sink = store.create_sink(0)
        sink.write(readings(1))
        kill_all(database)
        with pytest.raises(SinkUnavailable):
            sink.write(readings(2))
        assert sink.write(readings(2)) == 1
        sink.close()


def test_a_connection_that_was_idle_for_long_is_replaced_without_a_word(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "_IDLE_SECONDS", -1.0)
    with migrated(database.server, database.name) as store:
        sink = store.create_sink(0)
        sink.write(readings(1))
        kill_all(database)
        assert sink.write(readings(2)) == 1
        sink.close()


def test_a_black_hole_costs_no_more_than_the_read_timeout(database: Database) -> None:
    """Trap 6: packets are swallowed and TCP stays up; without a time-out this hangs for ever."""
    with migrated(database.server, database.name), InThread(TcpProxy(database.port)) as proxy:
        sink = through(database, proxy.port, connect_timeout=1, lock_wait_timeout=1, read_timeout=1.5)
        sink.write(readings(1))
        # When
        proxy.do(lambda p: p.swallow())
        began = time.monotonic()
        with pytest.raises(SinkUnavailable):
            sink.write(readings(5))
        with pytest.raises(SinkUnavailable):  # the handshake of a new connection is swallowed too
            sink.write(readings(5))
        took = time.monotonic() - began
        # Then
        assert took < 2 * 1.5 + 2
        proxy.do(lambda p: p.heal())
        assert sink.write(readings(5)) == 4
        sink.close()


def test_a_server_that_was_killed_and_came_back_gets_the_same_batch(private_database_server: DatabaseServer) -> None:
    server = private_database_server
    with migrated(server) as store:
        sink = store.create_sink(0)
        sink.write(readings(3))
        server.kill()
        for _ in range(2):
            with pytest.raises(SinkUnavailable):
                sink.write(readings(6))
        server.start()
        assert sink.write(readings(6)) == 3
        assert store.count_run_rows("run") == 6
        sink.close()


# -- trap 7 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "there"), [(Fault.AFTER, 10), (Fault.BEFORE, 0)])
def test_a_commit_whose_answer_is_lost_is_ambiguous_and_right_when_repeated(
    database: Database, fault: Fault, there: int
) -> None:
    """Trap 7."""
    with migrated(database.server, database.name) as store, InThread(MySqlProxy(database.port)) as proxy:
        sink = through(database, proxy.port)
        proxy.do(lambda p: p.break_at(fault, "COMMIT"))
        with pytest.raises(SinkUnavailable) as error:
            sink.write(readings(10))
        assert error.value.commit_outcome_unknown
        assert store.count_run_rows("run") == there
        assert sink.write(readings(10)) == 10 - there
        assert store.count_run_rows("run") == 10, "one row per key"
        sink.close()


def test_a_statement_whose_answer_is_lost_is_not_ambiguous(database: Database) -> None:
    with migrated(database.server, database.name) as store, InThread(MySqlProxy(database.port)) as proxy:
        sink = through(database, proxy.port)
        proxy.do(lambda p: p.break_at(Fault.AFTER, "INSERT"))
        with pytest.raises(SinkUnavailable) as error:
            sink.write(readings(10))
        assert not error.value.commit_outcome_unknown
        assert store.count_run_rows("run") == 0
        sink.close()


class NothingToPark:
    """A dead-letter box of a test in which no letter may appear."""

    def park(self, letters: Sequence[DeadLetter]) -> int:
        raise AssertionError(letters)


def test_the_counters_are_right_after_an_ambiguous_commit(database: Database) -> None:
    """Trap 7, through the writer: rows that our own lost COMMIT stored are no duplicates."""
    with migrated(database.server, database.name) as store, InThread(MySqlProxy(database.port)) as proxy:
        batch = readings(10)
        writer = BatchWriter(
            0,
            through(database, proxy.port),
            NothingToPark(),
            lambda delivery: batch[int(delivery.payload)],
            backoff=Backoff(0.01, 0.01),
            pause=lambda _: True,
            breaker=RejectionBreaker(),
        )
        proxy.do(lambda p: p.break_at(Fault.AFTER, "COMMIT"))
        report = writer.write([Delivery("t", str(n).encode(), 1, 0.0, None) for n in range(10)])
        assert (report.messages_stored, report.redelivered_rows, report.transactions, dict(report.rejected)) == (
            10,
            0,
            2,
            {},
        )
        assert store.count_run_rows("run") == 10
        writer.close()


def test_a_transaction_in_a_black_hole_does_not_keep_its_locks_until_the_server_gives_up_after_hours(
    database: Database,
) -> None:
    # The server waited for our COMMIT (wait_timeout, 8 hours), and every retry of the same rows ended in 1205.
    with migrated(database.server, database.name), InThread(MySqlProxy(database.port)) as proxy:
        sink = through(database, proxy.port, read_timeout=1.5, lock_wait_timeout=1, connect_timeout=1)
        sink.write(readings(1))
        proxy.do(lambda p: p.break_at(Fault.SWALLOW, "COMMIT"))
        with pytest.raises(SinkUnavailable):
            sink.write(readings(5))

        def stored() -> bool:
            try:
                return sink.write(readings(5)) == 4
            except SinkUnavailable:
                return False

        eventually(stored, "the server has let go of the rows", 10)
        sink.close()


# -- the pool ----------------------------------------------------------------------------------------------------------


def test_an_exhausted_pool_is_reported_and_the_batch_is_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connect, "EXHAUSTED_WAIT", 0.05)
    with migrated(database.server, database.name):
        pool = ConnectionPool(settings_for(database.server, database.name, pool_size=1))
        sink = MySqlSink(pool, worker=1)
        lease = pool.checkout(0)
        with caplog.at_level(logging.WARNING), pytest.raises(SinkUnavailable, match=r"raise database\.pool_size"):
            sink.write(readings(1))
        assert "[WORKER-1] Pool exhausted, waiting 0s before retry" in caplog.messages
        lease.release()
        assert sink.write(readings(1)) == 1
        sink.close()
        pool.close()


def test_a_writer_that_waits_gets_the_connection_that_comes_back(database: Database) -> None:
    with migrated(database.server, database.name):
        pool = ConnectionPool(settings_for(database.server, database.name, pool_size=1))
        sink = MySqlSink(pool)
        lease = pool.checkout(0)
        written: list[int] = []
        waiting = threading.Thread(target=lambda: written.append(sink.write(readings(1))))
        waiting.start()
        lease.release()
        waiting.join(connect.EXHAUSTED_WAIT - 1)
        assert written == [1], "it does not sleep its five seconds out"
        sink.close()
        pool.close()


def test_with_fewer_connections_than_writers_none_keeps_its_own_and_starves_another(database: Database) -> None:
    # A writer that kept its connection while it had nothing to write left the other's batch unwritten for ever.
    with migrated(database.server, database.name, pool_size=1) as store:
        first, second = store.create_sink(0), store.create_sink(1)
        assert [first.write(readings(1)), second.write(readings(2)), first.write(readings(3))] == [1, 1, 1], (
            "each adds one row to those before"
        )
        second.close()
        first.close()


def test_a_connection_is_used_again_by_the_next_writer(database: Database) -> None:
    with migrated(database.server, database.name, pool_size=2) as store:
        before = run_as_root(database.server, "SHOW GLOBAL STATUS LIKE 'Connections'")
        for number in range(5):
            sink = store.create_sink(number)
            sink.write(readings(number))
            sink.close()
        after = run_as_root(database.server, "SHOW GLOBAL STATUS LIKE 'Connections'")
        assert int(after[0][1]) - int(before[0][1]) <= 2  # ours, and the second of the two that ask


def test_every_session_is_set_up_alike(database: Database) -> None:
    database.prepare()
    pool = ConnectionPool(settings_for(database.server, database.name, lock_wait_timeout=3))
    lease = pool.checkout(0)
    isolation = "transaction_isolation" if is_oracle_mysql() else "tx_isolation"
    with lease.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT @@time_zone, @@{isolation}, @@innodb_lock_wait_timeout, @@lock_wait_timeout, @@wait_timeout,"
            " @@character_set_client, @@collation_connection, @@autocommit, @@sql_mode"
        )
        *found, sql_mode = cursor.fetchone() or ()
    assert found == ["+00:00", "READ-COMMITTED", 3, 3, 30, "utf8mb4", "utf8mb4_bin", 1]
    assert "STRICT_ALL_TABLES" in sql_mode
    assert "NO_BACKSLASH_ESCAPES" not in sql_mode
    assert lease.server.mariadb != is_oracle_mysql()
    assert lease.server.max_allowed_packet >= 2**20
    lease.release()
    pool.close()


# -- who answers -------------------------------------------------------------------------------------------------------


def test_a_socket_file_is_used_instead_of_host_and_port(database: Database) -> None:
    with migrated(database.server, database.name, unix_socket=database.server.socket, host="nowhere.invalid") as store:
        assert store.create_sink(0).write(readings(2)) == 2
        assert str(database.server.socket) in store.label


def test_nobody_there_is_an_outage(database: Database) -> None:
    sink = through(database, 1)
    with pytest.raises(SinkUnavailable, match=r"127.0.0.1:1: cannot reach the server"):
        sink.write(readings(1))


def test_another_protocol_on_that_port_is_a_mistake_in_the_settings() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                client.recv(100)

        thread = threading.Thread(target=answer)
        thread.start()
        store = MySqlStore(DatabaseSettings(host="127.0.0.1", port=listener.getsockname()[1]))
        with pytest.raises(SinkMisconfigured, match="no MySQL server"):
            store.check_schema()
        thread.join(5)


@pytest.fixture(scope="module")
def tls_server(certificates: Certificates) -> Any:
    with DatabaseServer(tls=certificates) as server:
        server.prepare()
        yield server


@pytest.mark.parametrize("mode", ["required", "verify-ca", "verify-identity"])
def test_each_tls_mode_encrypts(tls_server: DatabaseServer, certificates: Certificates, mode: Any) -> None:
    tls = DatabaseTlsSettings(mode=mode, ca_file=certificates.authority)
    pool = ConnectionPool(settings_for(tls_server, tls=tls))
    lease = pool.checkout(0)
    with lease.connection.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        assert (cursor.fetchone() or ("", ""))[1]
    lease.release()
    pool.close()


@pytest.mark.parametrize("mode", ["verify-ca", "verify-identity"])
def test_a_certificate_of_a_stranger_is_no_outage(
    tls_server: DatabaseServer, certificates: Certificates, mode: Any
) -> None:
    tls = DatabaseTlsSettings(mode=mode, ca_file=certificates.stranger)
    with pytest.raises(SinkMisconfigured, match="not the one that we trust") as error:
        MySqlSink(ConnectionPool(settings_for(tls_server, tls=tls))).write([reading(1)])
    assert error.value.errno == 2003


@pytest.fixture(scope="module")
def misnamed_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    certificates = Certificates.issue(tmp_path_factory.mktemp("misnamed"), "db.example.com")
    with DatabaseServer(tls=certificates) as server:
        server.prepare(tls=DatabaseTlsSettings(mode="required"))
        yield server, certificates.authority


def test_a_certificate_for_another_name_passes_verify_ca_and_fails_verify_identity(misnamed_server: Any) -> None:
    server, authority = misnamed_server
    MySqlSink(ConnectionPool(settings_for(server, tls=DatabaseTlsSettings(mode="verify-ca", ca_file=authority)))).write(
        [reading(1)]
    )
    with pytest.raises(SinkMisconfigured, match=r"not valid for '127\.0\.0\.1'"):
        MySqlSink(
            ConnectionPool(settings_for(server, tls=DatabaseTlsSettings(mode="verify-identity", ca_file=authority)))
        ).write([reading(2)])


@pytest.mark.skipif(is_oracle_mysql(), reason="MySQL makes a certificate for itself")
@pytest.mark.parametrize("mode", ["required", "verify-ca", "verify-identity"])
def test_a_server_without_tls_is_refused_when_tls_is_required(database: Database, mode: Any) -> None:
    tls = DatabaseTlsSettings(mode=mode)
    with pytest.raises(SinkMisconfigured, match="TLS could not be set up"):
        MySqlSink(ConnectionPool(settings_for(database.server, database.name, tls=tls))).write([reading(1)])
