"""Tables of the user's own for tests, and rows of them; on a database, with the accounts of `sensorsync init-db --grants`."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sensorsync.config import DatabaseSettings
from sensorsync.messages.reading import Column, TableRow, TargetTable
from sensorsync.messages.reading.rows import ColumnValue
from sensorsync.storage.mysql import grants
from sensorsync.storage.mysql.target_tables import MySqlDialect
from sensorsync.storage.sqlite.target_tables import SqliteDialect
from tests.conftest import Database
from tests.services.database import is_oracle_mysql

STATE = TargetTable(
    "machine_state",
    (
        Column("celsius", "number"),
        Column("machine", "text"),
        Column("at", "time"),
        Column("pieces", "integer"),
        Column("running", "boolean"),
        Column("note", "text"),
        Column("document", "json"),
        Column("message", "id"),
        Column("anything", None),
    ),
    key=("machine", "at"),
    conflict="last",
)
ALARMS = TargetTable("alarms", (Column("id", "id"), Column("text", "text")), key=("id",))


def state(number: int = 0, table: TargetTable = STATE, **changes: ColumnValue) -> TableRow:
    """The `number`-th state of machine `m`; `changes` replace columns. Two with the same number have the same key."""
    at = f"2026-01-02 03:04:05.{number:06d}"
    plain: dict[str, ColumnValue] = {
        "celsius": 20.5 + number,
        "machine": "m",
        "at": at,
        "pieces": number,
        "running": number % 2 == 0,
        "note": None,
        "document": f'{{"n": {number}}}',
        "message": number.to_bytes(16),
        "anything": str(number),
    }
    values = {**plain, **changes}
    return TableRow(table, tuple(values[column.name] for column in table.columns), at)


def alarm(number: int = 0, table: TargetTable = ALARMS, **changes: ColumnValue) -> TableRow:
    """The `number`-th alarm, which has no time."""
    values: dict[str, ColumnValue] = {"id": number.to_bytes(16), "text": f"alarm {number}", **changes}
    return TableRow(table, tuple(values[column.name] for column in table.columns), None)


def first(table: TargetTable) -> TargetTable:
    """The same table, in which the first of two rows stays."""
    return replace(table, conflict="first")


class Ground:
    """A database with our tables and own ones, as a person who administers it has it."""

    def __init__(self, place: Any) -> None:
        self._place = place
        place.prepare()

    @property
    def is_mysql(self) -> bool:
        return isinstance(self._place, Database)

    @property
    def dialect(self) -> MySqlDialect | SqliteDialect:
        return MySqlDialect() if isinstance(self._place, Database) else SqliteDialect()

    def make(self, *tables: TargetTable) -> None:
        """Make these tables as a difference suggests it, and allow the accounts what their commands do with them."""
        self.run(*(self.dialect.create_table(table) for table in tables))
        self.allow(*tables)

    def allow(self, *tables: TargetTable) -> None:
        """Run what `init-db --grants` prints."""
        if not isinstance(self._place, Database):
            return
        settings: DatabaseSettings = self._place.settings()
        accounts = grants.accounts(settings, mariadb=not is_oracle_mysql(), host="%", target_tables=tables)
        password = f"'{self._place.password}'"
        self.run(*(line.replace(account.password, password) for account in accounts for line in account.statements))

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements, as root; the rows of the last one."""
        if isinstance(self._place, Database):
            with self._place.connect() as connection, connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall())
        path: Path = self._place.path
        rows: list[tuple[Any, ...]] = []
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file:
            for statement in statements:
                rows = file.execute(statement).fetchall()
        return rows

    def count(self, *names: str) -> list[int]:
        """How many rows each of these tables has."""
        return [int(self.run(f"SELECT COUNT(*) FROM {name}")[0][0]) for name in names]


def statements_in(differences: Sequence[str]) -> list[str]:
    """What the sentences say to run, in their order."""
    return [statement for difference in differences if (statement := difference.partition(": run ")[2])]
