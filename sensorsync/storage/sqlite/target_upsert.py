"""The upsert of a target table in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from math import isfinite

from sensorsync.messages.reading import TableRow, TargetTable
from sensorsync.messages.reading.rows import ColumnValue
from sensorsync.pipeline.contract import BatchRejected
from sensorsync.storage.sqlite.target_tables import quote_identifier


class TargetUpsert:
    """The `sink.Upsert` of one target table and one writer."""

    def __init__(self, table: TargetTable) -> None:
        self.table = table
        names = [column.name for column in table.columns]
        others = [quote_identifier(name) for name in names if name not in table.key]
        insert = (
            f"INSERT INTO {quote_identifier(table.name)} ({', '.join(map(quote_identifier, names))})"  # noqa: S608 - quoted
            f" VALUES ({', '.join('?' * len(names))})"
            f" ON CONFLICT ({', '.join(map(quote_identifier, table.key))}) DO "
        )
        self._insert_sql = f"{insert}NOTHING"
        changes = ", ".join(f"{name} = excluded.{name}" for name in others)
        self._update_sql = f"{insert}UPDATE SET {changes}" if changes and table.conflict == "last" else None

    def parameters(self, rows: Sequence[TableRow]) -> list[tuple[ColumnValue, ...]]:
        """Return the bound parameters. Raises BatchRejected for a value that SQLite would silently store as NULL."""
        values = [row.values for row in rows]
        for row in values:
            for value in row:
                if isinstance(value, float) and not isfinite(value):
                    raise BatchRejected(f"{value} is no number that can be stored")
        return values

    def store(self, connection: sqlite3.Connection, values: Sequence[tuple[ColumnValue, ...]]) -> int:
        """Write the rows in the open transaction, and return the number of new ones."""
        # Not total_changes, because that includes changes by triggers of the table.
        new = connection.executemany(self._insert_sql, values).rowcount
        if self._update_sql and new < len(values):
            # All rows exist by now and are updated in the order of arrival.
            connection.executemany(self._update_sql, values)
        return new
