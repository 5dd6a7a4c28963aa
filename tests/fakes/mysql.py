"""A MySQL server without a server: a MySqlSink writes to it, and a rule decides which of its statements fail. Its clock is virtual."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self

import pymysql

from sensorsync.messages.reading import TargetTable
from sensorsync.storage.mysql.server import ServerInfo
from sensorsync.storage.mysql.table_verifier import TableVerifier

SEQUENCE = re.compile(r'\{"seq": (\d+)\}')
"""How a test marks a row, in its payload."""


@dataclass
class VirtualClock:
    """Seconds that pass only when somebody waits or works."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> bool:
        """Wait; what a BatchWriter is given for it."""
        self.now += seconds
        return True


Failure = tuple[int, str] | None


@dataclass
class FakeMySql:
    """Stands in for a ConnectionPool and for the connections in it.

    `fails(step, sequences, statement)`: the number and text with which BEGIN, a statement with these rows, or COMMIT fails; None: it
    works.
    """

    clock: VirtualClock
    fails: Callable[[str, list[int], str], Failure] = lambda _step, _rows, _statement: None
    stored: set[int] = field(default_factory=set)
    connections: int = 0
    largest: int = 0
    """The most rows of one committed transaction."""
    is_oversubscribed = False
    connector = SimpleNamespace(address="db:3306", idle_limit=1e9, verify_session=lambda _connection: None)

    def register(self, _writer: object) -> None:
        pass

    def unregister(self, _writer: object) -> None:
        pass

    def checkout(self, _worker: int) -> FakeLease:
        self.connections += 1
        return FakeLease(self)

    def step(self, name: str, rows: list[int], statement: str = "") -> None:
        """Take the time of a round trip, and fail where the rule demands it."""
        self.clock.now += 0.0002 + 0.000_005 * len(rows)
        if (failure := self.fails(name, rows, statement)) is not None:
            raise pymysql.OperationalError(*failure)


class FakeLease:
    """A connection that is checked out."""

    server = ServerInfo.from_version("10.11.19-MariaDB", 2**24)

    def __init__(self, mysql: FakeMySql) -> None:
        self._mysql = mysql
        self._pending: list[int] = []
        self.connection = self
        self.checks: dict[str, float] = {}

    def cursor(self) -> FakeCursor:
        return FakeCursor(self)

    def begin(self) -> None:
        self._pending = []
        self._mysql.step("begin", [])

    def execute(self, statement: bytes) -> int:
        """Run an upsert; return how many rows it has."""
        text = statement.decode()
        rows = [int(number) for number in SEQUENCE.findall(text)]
        self._mysql.step("statement", rows, text)
        self._pending += rows
        return len(rows)

    def commit(self) -> None:
        self._mysql.step("commit", self._pending)
        self._mysql.largest = max(self._mysql.largest, len(self._pending))
        self._mysql.stored.update(self._pending)

    def rollback(self) -> bool:
        self._pending = []
        return True

    def is_alive(self) -> bool:
        return True

    def release(self, *, broken: bool = False) -> None:
        pass


class TableAsVerified(TableVerifier):
    """Finds every table right: this server has none to look at."""

    def verify(self, cursor: Any, table: TargetTable | None, address: str) -> bool:
        return False


class FakeCursor:
    """A cursor that is a context manager, as the driver's."""

    warning_count = 0

    def __init__(self, lease: FakeLease) -> None:
        self.execute = lease.execute

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
