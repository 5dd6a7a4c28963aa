"""The path to the database does what it says: the client gets what is injected, and the server got what was passed on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pymysql
import pytest

from tests.acceptance.nemesis.injections import INJECTED, UNDECIDED, DatabaseFaults, Kind, Phase
from tests.acceptance.nemesis.mysql_bytes import COM_QUERY, Statements
from tests.acceptance.nemesis.proxy import DatabaseProxy
from tests.conftest import Database
from tests.services import free_port

LOST = 2013


def _through(database: Database, faults: DatabaseFaults, work: Callable[[Any, DatabaseProxy], None]) -> Any:
    """Do `work` in a thread with a connection through a proxy; its faults begin when the connection is there."""

    async def scene() -> None:
        async with DatabaseProxy(free_port(), database.port, random.Random(3)) as proxy:

            def client() -> None:
                connection = pymysql.connect(
                    host="127.0.0.1", port=proxy.port, user="root", database=database.name, read_timeout=2
                )
                proxy.faults = faults
                work(connection, proxy)

            await asyncio.wait_for(asyncio.to_thread(client), 20)

    asyncio.run(scene())
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM t")
        return cursor.fetchone()[0]


@pytest.fixture
def table(database: Database) -> Database:
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (a INT)")
    return database


@pytest.mark.parametrize(
    ("kind", "errno", "rows"),
    [
        (Kind.ERROR_BEFORE, 1213, 0),
        (Kind.ERROR_AFTER, 1213, 1),
        (Kind.CUT_BEFORE, LOST, 0),
        (Kind.CUT_AFTER, LOST, 1),
        (Kind.CUT_INSIDE, LOST, 0),
        (Kind.HANG, LOST, 0),
        (Kind.DELAY, None, 1),
    ],
)
def test_what_happens_at_a_commit_is_what_client_and_server_see(
    table: Database, kind: Kind, errno: int | None, rows: int
) -> None:
    faults = DatabaseFaults({Phase.COMMIT: 1.0}, {Phase.COMMIT: (1213,)}, (kind,))

    def work(connection: Any, proxy: DatabaseProxy) -> None:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO t VALUES (1)")
            if errno is None:
                connection.commit()
            else:
                with pytest.raises(pymysql.OperationalError) as raised:
                    connection.commit()
                assert raised.value.args[0] == errno
        assert sum(proxy.counts.values()) == 1

    assert _through(table, faults, work) == rows


def test_an_error_that_ends_the_connection_is_the_last_thing_that_comes(table: Database) -> None:
    faults = DatabaseFaults({Phase.COMMIT: 1.0}, {Phase.COMMIT: (1053,)}, (Kind.ERROR_AFTER,))

    def work(connection: Any, proxy: DatabaseProxy) -> None:
        connection.autocommit(True)
        with connection.cursor() as cursor:
            for expected in ({1053}, {LOST, 2006}):
                with pytest.raises(pymysql.OperationalError) as raised:
                    cursor.execute("INSERT INTO t VALUES (1)")
                assert raised.value.args[0] in expected

    assert _through(table, faults, work) == 1


def test_rows_and_errors_of_the_server_pass_unchanged(table: Database) -> None:
    def work(connection: Any, proxy: DatabaseProxy) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 UNION SELECT 2 UNION SELECT NULL")
            assert cursor.fetchall() == ((1,), (2,), (None,))
            with pytest.raises(pymysql.ProgrammingError):
                cursor.execute("SELECT * FROM nowhere")
            cursor.execute("SELECT REPEAT('x', 1000000)")
            assert len(cursor.fetchone()[0]) == 1_000_000
            proxy.cut()

    assert _through(table, DatabaseFaults({}, {}), work) == 0


def test_a_refused_connection_gets_the_error_before_any_greeting(table: Database) -> None:
    faults = DatabaseFaults({Phase.CONNECT: 1.0}, {Phase.CONNECT: (1040,)}, (Kind.ERROR_BEFORE,))

    def work(_: Any, proxy: DatabaseProxy) -> None:
        with pytest.raises(pymysql.OperationalError) as raised:
            pymysql.connect(host="127.0.0.1", port=proxy.port, user="root", read_timeout=2)
        assert raised.value.args[0] == 1040

    assert _through(table, faults, work) == 0


def test_a_statement_that_writes_outside_of_a_transaction_is_its_own_commit() -> None:
    statements = Statements()
    texts = ("INSERT INTO t", "begin", "/* x */ INSERT", "COMMIT", "insert", "START TRANSACTION", "ROLLBACK", "INSERT")

    phases = [statements.phase(bytes([COM_QUERY]) + text.encode()) for text in texts]

    insert, commit = Phase.INSERT, Phase.COMMIT
    assert phases == [commit, Phase.BEGIN, insert, commit, commit, Phase.BEGIN, Phase.OTHER, commit]


def test_no_number_is_in_both_lists() -> None:
    assert not [n for phase, some in UNDECIDED.items() for n in some if n in INJECTED[phase]]
