"""Storing rows of a table of the user's own in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from math import isfinite

from sensorsync.messages.reading import OwnTable, TableRow
from sensorsync.messages.reading.rows import Value
from sensorsync.pipeline.contract import BatchRefused
from sensorsync.storage.sqlite.own_tables import quoted


class OwnUpsert:
    """See `sink.Upsert`. Made once for a table and a writer."""

    def __init__(self, table: OwnTable) -> None:
        self.table = table
        names = [column.name for column in table.columns]
        others = [quoted(name) for name in names if name not in table.key]
        insert = (
            f"INSERT INTO {quoted(table.name)} ({', '.join(map(quoted, names))}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 - quoted
            f" ON CONFLICT ({', '.join(map(quoted, table.key))}) DO "
        )
        self._add = f"{insert}NOTHING"
        changes = ", ".join(f"{name} = excluded.{name}" for name in others)
        self._replace = f"{insert}UPDATE SET {changes}" if changes and table.conflict == "last" else None

    def values(self, rows: Sequence[TableRow]) -> list[tuple[Value, ...]]:
        """What is bound. BatchRefused for a value that SQLite would silently store as NULL."""
        values = [row.values for row in rows]
        for row in values:
            for value in row:
                if isinstance(value, float) and not isfinite(value):
                    raise BatchRefused(f"{value} is no number that can be stored")
        return values

    def store(self, connection: sqlite3.Connection, values: Sequence[tuple[Value, ...]]) -> int:
        """Write them in the transaction that is open; return how many were new."""
        # Not total_changes: that counts what triggers of the table do, too.
        new = connection.executemany(self._add, values).rowcount
        if self._replace and new < len(values):
            # In the order of arrival, over rows that are there by now.
            connection.executemany(self._replace, values)
        return new
