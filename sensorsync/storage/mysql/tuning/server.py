"""The server that `tune-db` changes: reads its variables, sets them one by one, and identifies the server."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pymysql

from sensorsync.config import DatabaseSettings
from sensorsync.errors import AlreadyRunningError
from sensorsync.pipeline.contract import SinkUnavailable
from sensorsync.storage.mysql.connect import ConnectionFactory
from sensorsync.storage.mysql.diagnosis import diagnose_error
from sensorsync.storage.mysql.schema import database_connection
from sensorsync.storage.mysql.server import decode_text

_LOCK: Final = "sensorsync.tune-db"
_SET_TIMEOUT: Final = 600.0
"""Seconds that one SET GLOBAL may take. MariaDB answers only when it has written a new redo log of that size."""
_IDLE: Final = 3600
_RESIZE_SECONDS: Final = 60.0
_POLL: Final = 0.05
_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_BUFFER_POOL: Final = "innodb_buffer_pool_size"
_MISSING_PRIVILEGE: Final = "this account may not set it; `sensorsync init-db --grants` shows what the tuner needs"
_SET_ERRORS: Final = {
    1193: "this server has no such variable",
    1210: "the server refuses this value",
    1227: _MISSING_PRIVILEGE,
    1231: "the server refuses this value",
    1232: "the server refuses this value",
    1238: "read-only on this server: put it into my.cnf, see --config-file",
    1651: "the query cache was off when the server started, so it cannot be switched now",
    3630: _MISSING_PRIVILEGE,
}


class SetVariableError(Exception):
    """A variable that the server did not set. The text is the reason."""


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """The identity of a server. An upgrade does not change it."""

    server: str
    """@@server_uuid on MySQL, @@server_uid on MariaDB (10.6 and later)."""
    hostname: str
    port: str
    datadir: str

    def __str__(self) -> str:
        return f"{self.hostname}:{self.port}, {self.datadir}"


class TunedServer:
    """An open connection to the server. `open_tuned_server` creates it."""

    def __init__(self, connection: Any, address: str) -> None:
        self._cursor: Any = connection.cursor()
        self._address = address

    def read_variables(self) -> dict[str, str]:
        """Return the rows of SHOW GLOBAL VARIABLES, with names in lower case."""
        self._cursor.execute("SHOW GLOBAL VARIABLES")
        return {str(name).lower(): decode_text(value) for name, value in self._cursor.fetchall()}

    def read_variable(self, name: str) -> str | None:
        """Return one variable, or None when the server does not have it."""
        self._cursor.execute("SHOW GLOBAL VARIABLES WHERE variable_name = %s", (name,))
        row = self._cursor.fetchone()
        return None if row is None else decode_text(row[1])

    def read_persisted_variables(self) -> dict[str, str]:
        """Return the variables that SET PERSIST has stored (mysqld-auto.cnf); MySQL only."""
        self._cursor.execute("SELECT variable_name, variable_value FROM performance_schema.persisted_variables")
        return {str(name).lower(): decode_text(value) for name, value in self._cursor.fetchall()}

    def start_time(self) -> float:
        """Return the time at which the server started, by its own clock: Unix time in seconds, correct to about a second."""
        self._cursor.execute("SHOW GLOBAL STATUS WHERE variable_name = 'Uptime'")
        uptime = float(self._cursor.fetchone()[1])
        self._cursor.execute("SELECT UNIX_TIMESTAMP(NOW(6))")
        return float(self._cursor.fetchone()[0]) - uptime

    def set_variable(self, name: str, value: str, *, persist: bool = False) -> str:
        """Run SET GLOBAL, or SET PERSIST, which also sets the global value, and return the value that the server then has.

        Raises SetVariableError.
        """
        self._wait_for_resize(name)
        literal: int | str = int(value) if value.isdecimal() else value
        self._execute(f"SET {'PERSIST' if persist else 'GLOBAL'} {_check_variable_name(name)} = %s", (literal,))
        self._wait_for_resize(name)
        return self.read_variable(name) or ""

    def reset_persisted(self, name: str) -> None:
        """Run RESET PERSIST, so that the next start takes the value from my.cnf again. Raises SetVariableError."""
        self._execute(f"RESET PERSIST IF EXISTS {_check_variable_name(name)}", ())

    @contextlib.contextmanager
    def tuning_lock(self) -> Iterator[None]:
        """Hold a lock that prevents any other tune-db from changing this server.

        Raises AlreadyRunningError when another one holds it.
        """
        self._cursor.execute("SELECT GET_LOCK(%s, 0)", (_LOCK,))
        if self._cursor.fetchone() != (1,):
            raise AlreadyRunningError(f"another tune-db is at work on {self._address}", hint="let it finish")
        try:
            yield
        finally:
            with contextlib.suppress(pymysql.Error):
                self._cursor.execute("SELECT RELEASE_LOCK(%s)", (_LOCK,))

    def _execute(self, statement: str, arguments: tuple[int | str, ...]) -> None:
        try:
            self._cursor.execute(statement, arguments)
        except (pymysql.Error, OSError) as error:
            diagnosis = diagnose_error(error)
            if diagnosis.connection_lost:
                raise SinkUnavailable(f"{self._address}: {diagnosis.message}", errno=diagnosis.errno) from error
            meaning = _SET_ERRORS.get(diagnosis.errno or 0)
            raise SetVariableError(
                diagnosis.message if meaning is None else f"{meaning} ({diagnosis.errno})"
            ) from error

    def _wait_for_resize(self, name: str) -> None:
        """Wait until a resize of the buffer pool ends. Raises SetVariableError.

        During a resize MySQL answers OK to a new size and ignores it (seen on 9.7).
        """
        give_up = time.monotonic() + _RESIZE_SECONDS
        while name == _BUFFER_POOL and self._resizing():
            if time.monotonic() > give_up:
                raise SetVariableError(f"the server was still resizing its buffer pool after {_RESIZE_SECONDS:.0f} s")
            time.sleep(_POLL)

    def _resizing(self) -> bool:
        self._cursor.execute("SHOW GLOBAL STATUS WHERE variable_name LIKE 'Innodb_buffer_pool_resize_status%'")
        status = {str(key).lower(): decode_text(value) for key, value in self._cursor.fetchall()}
        code = status.get("innodb_buffer_pool_resize_status_code")  # MySQL 8.0.31
        text = status.get("innodb_buffer_pool_resize_status", "")
        return (
            code != "0" if code is not None else text.startswith(("Resizing", "Withdrawing", "Latching", "Requested"))
        )


@contextlib.contextmanager
def open_tuned_server(settings: DatabaseSettings) -> Iterator[TunedServer]:
    """Open a connection to the configured server, without a default database. Raises SinkUnavailable or SinkMisconfigured."""
    connector = ConnectionFactory(settings)
    with database_connection(connector, database=False, read_timeout=_SET_TIMEOUT) as connection:
        with connection.cursor() as cursor:
            # This connection holds the lock, and it is idle while we measure on other connections.
            cursor.execute("SET SESSION wait_timeout = %s", (_IDLE,))
        yield TunedServer(connection, connector.address)


def server_identity(variables: dict[str, str]) -> ServerIdentity:
    """Return the identity of the server with these variables."""
    unique = variables.get("server_uuid") or variables.get("server_uid") or variables.get("server_id", "")
    return ServerIdentity(
        unique, variables.get("hostname", ""), variables.get("port", ""), variables.get("datadir", "")
    )


def _check_variable_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SetVariableError(f"{name!r} is no name of a variable")
    return name
