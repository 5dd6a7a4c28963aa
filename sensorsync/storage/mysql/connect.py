"""Connections to MySQL and MariaDB, and the pool that counts them.

DBUtils' pool counts connections and stores idle ones, but it never opens one. By default it connects inside the pool's
single lock, where a server that does not answer stops every writer. It also reconnects in the middle of a transaction
and continues with the statement that failed, so that the earlier statements are lost. Therefore the pool gets
connections that are not open yet. The writer that checks one out opens it outside the lock and handles the error. A
connection by which DBUtils replaces a broken one is not open either, so no statement can run on it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

import pymysql
import pymysql.connections
import pymysql.cursors
from dbutils.pooled_db import PooledDB, TooManyConnectionsError

from sensorsync.config import DatabaseSettings
from sensorsync.pipeline.contract import SinkMisconfigured, SinkUnavailable, SinkVerificationFailed
from sensorsync.pipeline.counters import ConnectionPoolCounters
from sensorsync.storage.mysql.clear_text import auth_plugin_arguments
from sensorsync.storage.mysql.diagnosis import ErrorDiagnosis, Phase, diagnose_error
from sensorsync.storage.mysql.faults import ErrorAction
from sensorsync.storage.mysql.server import ServerInfo
from sensorsync.storage.mysql.session import CHARSET, COLLATION, SESSION_HINT, read_session, set_up_session
from sensorsync.storage.mysql.tls import tls_arguments

logger = logging.getLogger(__name__)

# Quoted: the class is generic only in its type stubs.
Connection: TypeAlias = "pymysql.connections.Connection[pymysql.cursors.Cursor]"

_IDLE_SECONDS: Final = 10.0
EXHAUSTED_WAIT: Final = 5.0
"""Seconds that a writer waits for a connection when all of the pool's connections are in use."""


class ConnectionFactory:
    """A factory of connections from the settings.

    With `database=False` a connection has no default database, so that the database can be created.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._arguments: dict[str, Any] = {
            "user": settings.user,
            # As bytes: the driver encodes a str as Latin-1 and fails on other passwords.
            "password": settings.password.get_secret_value().encode(),
            "charset": CHARSET,
            "collation": COLLATION,
            "autocommit": True,  # begin() opens every transaction; no other statement may remain in one
            "connect_timeout": settings.connect_timeout,
            "program_name": "sensorsync",
            **tls_arguments(settings),
            **auth_plugin_arguments(settings),
        }
        if settings.unix_socket:
            self._arguments["unix_socket"] = str(settings.unix_socket)
        else:
            self._arguments |= {"host": settings.host, "port": settings.port}

    @property
    def idle_limit(self) -> float:
        """Seconds after which an idle connection is checked before use, because servers and firewalls close idle connections."""
        return min(_IDLE_SECONDS, self._settings.read_timeout)

    @property
    def address(self) -> str:
        """The server's address, for messages to people."""
        return str(self._settings.unix_socket or f"{self._settings.host}:{self._settings.port}")

    def new_connection(self, *, read_timeout: float | None = None, database: bool = True) -> Connection:
        """Return a connection that is not open yet.

        `read_timeout`: seconds that an answer may take, by default `database.read_timeout`.
        """
        timeout = read_timeout or self._settings.read_timeout
        return pymysql.connections.Connection(
            **self._arguments,
            read_timeout=timeout,
            write_timeout=timeout,
            database=self._settings.name if database else None,
            defer_connect=True,
        )

    def open(self, connection: Connection) -> ServerInfo:
        """Open `connection`, set its session variables and return the server's version and limits.

        Raises the driver's exceptions, and SinkMisconfigured where the session is not as it was set.
        """
        connection.connect()
        try:
            with connection.cursor() as cursor:
                set_up_session(cursor, self._settings)
            return self.verify_session(connection)
        except BaseException:
            close_quietly(connection)
            raise

    def verify_session(self, connection: Connection) -> ServerInfo:
        """Return the server of an open connection; SinkMisconfigured where its session is not as it was set.

        One round trip, which also shows whether the connection still works. Raises the driver's exceptions.
        """
        with connection.cursor() as cursor:
            server, differences = read_session(cursor)
        if differences:
            raise SinkMisconfigured(f"{self.address}: {'; '.join(differences)}", hint=SESSION_HINT)
        return server


def close_quietly(connection: Connection) -> None:
    """Close the socket, and ignore errors of a connection that is broken or closed already."""
    with contextlib.suppress(pymysql.Error, OSError):
        connection.close()


class Lease:
    """An open connection that one writer has checked out of the pool. The writer holds it until it fails."""

    def __init__(self, pool: ConnectionPool, pooled: Any, server: ServerInfo, checks: dict[str, float]) -> None:
        self._pool = pool
        self._pooled = pooled
        self.server = server
        self.checks = checks
        """The time at which each check is due on this connection (time.monotonic()); empty on a new one."""

    @property
    def connection(self) -> Connection:
        """The driver's connection."""
        raw: Connection = self._pooled.dbapi_connection
        return raw

    def begin(self) -> None:
        """Open a transaction. From then on DBUtils does not replace the connection."""
        self._pooled.begin()

    def commit(self) -> None:
        """Commit, and return when the server has answered OK."""
        self._pooled.commit()

    def rollback(self) -> bool:
        """Roll back, and return False when the connection is dead. The server then rolls back by itself."""
        try:
            self._pooled.rollback()
        except Exception:  # noqa: BLE001 - the transaction has failed already; the caller only needs to know if the connection is usable
            return False
        return True

    def is_alive(self) -> bool:
        """Return True when `SELECT 1` works."""
        try:
            with self.connection.cursor() as cursor:
                return cursor.execute("SELECT 1") == 1
        except (pymysql.Error, OSError):
            return False

    def release(self, *, broken: bool = False) -> None:
        """Return the connection to the pool.

        `broken` closes it first; the next writer that checks it out opens it again.
        """
        if broken:
            close_quietly(self.connection)
            self._pool.counters.add(discarded=1)
        self._pooled.close()
        self._pool.connection_returned()


class ConnectionPool:
    """A pool of at most `database.pool_size` connections, opened when they are needed."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self.connector = ConnectionFactory(settings)
        self._size = settings.pool_size
        self.counters = ConnectionPoolCounters(self._size)
        self._connection_returned = threading.Condition()
        self._registered_writers: set[object] = set()
        self._checks: WeakKeyDictionary[Connection, dict[str, float]] = WeakKeyDictionary()
        # failures: only InterfaceError ("the connection is closed"), so that a failed statement is raised and never run again.
        # ping=0: a writer detects a dead connection by its next statement. The module's docstring explains new_connection.
        self._pool: Any = PooledDB(
            self.connector.new_connection,
            maxconnections=self._size,
            blocking=False,
            reset=True,
            failures=(pymysql.InterfaceError,),
            ping=0,
        )

    def register(self, writer: object) -> None:
        """Register `writer` as a user of the pool."""
        with self._connection_returned:
            self._registered_writers.add(writer)

    def unregister(self, writer: object) -> None:
        """Remove `writer` from the users of the pool. Nothing happens when it is not registered."""
        with self._connection_returned:
            self._registered_writers.discard(writer)

    @property
    def is_oversubscribed(self) -> bool:
        """True when there are more writers than connections. A writer that held its connection would then block another forever."""
        return len(self._registered_writers) > self._size

    def checkout(self, worker: int) -> Lease:
        """Return an open connection for writer `worker`.

        Waits at most EXHAUSTED_WAIT seconds when all of the pool's connections are in use. Raises SinkUnavailable or
        SinkMisconfigured when it cannot return one.
        """
        pooled = self._wait_for_connection(worker)
        raw: Connection = pooled.dbapi_connection
        try:
            server = self._check_idle_connection(raw) or self._open_connection(raw)
        except Exception as error:
            close_quietly(raw)
            pooled.close()
            self.connection_returned()
            if isinstance(error, SinkMisconfigured):
                # The start has seen other settings: this is another server or proxy, and can pass.
                raise SinkVerificationFailed(str(error), hint=error.hint) from error
            raise sink_error(diagnose_error(error, Phase.CONNECT), self.connector.address) from error
        return Lease(self, pooled, server, self._checks.setdefault(raw, {}))

    def _check_idle_connection(self, connection: Connection) -> ServerInfo | None:
        """Return the server of a connection that was idle in the pool, or None when the connection is not open (any longer)."""
        if connection.open:
            try:
                return self.connector.verify_session(connection)
            except (pymysql.Error, OSError, SinkMisconfigured):
                close_quietly(connection)
                self.counters.add(discarded=1)
        return None

    def _open_connection(self, connection: Connection) -> ServerInfo:
        self._checks.pop(connection, None)
        server = self.connector.open(connection)
        self.counters.add(opened=1)
        return server

    def _wait_for_connection(self, worker: int) -> Any:
        if (pooled := self._try_acquire()) is not None:
            return pooled
        logger.warning(
            "[WORKER-%d] Pool exhausted, waiting %.0fs before retry",
            worker,
            EXHAUSTED_WAIT,
            extra={"event": "pool_exhausted", "worker": worker, "pool_size": self._size},
        )
        self.counters.add(waits=1)
        with self._connection_returned:
            pooled = self._connection_returned.wait_for(self._try_acquire, EXHAUSTED_WAIT)
        if pooled is None:
            raise SinkUnavailable(f"all {self._size} connections of the pool are taken; raise database.pool_size")
        return pooled

    def _try_acquire(self) -> Any | None:
        try:
            pooled = self._pool.connection(shareable=False)
        except TooManyConnectionsError:
            return None
        self.counters.add(in_use=1)
        return pooled

    def connection_returned(self) -> None:
        """Count a connection that came back to the pool, and wake a writer that waits for one."""
        self.counters.add(in_use=-1)
        with self._connection_returned:
            self._connection_returned.notify()

    def close(self) -> None:
        """Close the connections that are not checked out."""
        self._pool.close()
        with self._connection_returned:
            self._connection_returned.notify_all()


def sink_error(
    diagnosis: ErrorDiagnosis, address: str, *, ambiguous: bool = False
) -> SinkUnavailable | SinkMisconfigured:
    """Return the exception for an error that is not about a row: SinkMisconfigured for CONFIG, else SinkUnavailable."""
    rule = diagnosis.rule
    message = f"{address}: {diagnosis.message}"
    if rule.action is ErrorAction.CONFIG:
        return SinkMisconfigured(message, errno=diagnosis.errno, hint=rule.hint)
    if rule.hint:
        message = f"{message}; {rule.hint}"
    return SinkUnavailable(
        message,
        errno=diagnosis.errno,
        commit_outcome_unknown=ambiguous,
        retry_immediately=rule.action is ErrorAction.RETRY,
    )
