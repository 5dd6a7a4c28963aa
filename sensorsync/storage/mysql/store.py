"""MySqlStore: everything that the commands want of a MySQL or MariaDB server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import pymysql.cursors

from sensorsync.config import DatabaseSettings
from sensorsync.messages.reading import OwnTable
from sensorsync.pipeline.contract import Sink, SinkMisconfigured
from sensorsync.pipeline.counters import PoolMeter
from sensorsync.storage.mysql import own_tables, partitions_upkeep, schema
from sensorsync.storage.mysql.connect import Pool, probe
from sensorsync.storage.mysql.migrations import quoted_name
from sensorsync.storage.mysql.schema import connected
from sensorsync.storage.mysql.server import DURABILITY_VARIABLES, durability_warnings
from sensorsync.storage.mysql.sink import MySqlSink
from sensorsync.storage.store import INIT_HINT, MEND_HINT, Migrated, SchemaState, StoredRow, Upkeep, key_range
from sensorsync.storage.target_table import OWN_TABLE_HINT

_SELECT_RUN: Final = (
    "SELECT device_id, event_id, metric, CAST(ts AS CHAR), value, payload FROM sensor_readings"
    " WHERE device_id >= %s AND device_id < %s ORDER BY device_id, metric, ts, event_id"
)
_COUNT_RUN: Final = "SELECT COUNT(*) FROM sensor_readings WHERE device_id >= %s AND device_id < %s"
_WRITE_NOTHING: Final = (
    "INSERT INTO sensor_readings (device_id, metric, ts, event_id, topic, received_at, payload)"
    " SELECT '', '', '2000-01-01', '', '', '2000-01-01', '{}' FROM DUAL WHERE FALSE"
)
"""No row, no lock on one, and yet refused wherever a row would be: a read-only server, a missing right or table."""
_DELETE_RUN: Final = (
    "DELETE FROM sensor_readings WHERE device_id >= %s AND device_id < %s"
    " ORDER BY device_id, metric, ts, event_id LIMIT 10000"
)


class MySqlStore:
    """See `store.Store`. Connects when something is asked of it, not before."""

    def __init__(self, settings: DatabaseSettings, tables: tuple[OwnTable, ...] = ()) -> None:
        self._settings = settings
        self._tables = tables
        self._pool = Pool(settings)
        self._connector = self._pool.connector
        self._server = ""

    @property
    def pool(self) -> PoolMeter:
        return self._pool.meter

    @property
    def label(self) -> str:
        return f"{self._server or 'MySQL'} at {self._connector.where}, database {self._settings.name}"

    def sink(self, worker: int) -> Sink:
        return MySqlSink(self._pool, self._settings.conflict, worker=worker, own_tables=self._tables)

    def check_schema(self) -> None:
        with connected(self._connector) as connection, connection.cursor() as cursor:
            self._server = probe(connection).label
            there = schema.engine(cursor) is not None
            differences = schema.table_differences(cursor)
            own = own_tables.table_differences(cursor, self._tables)
        if differences:
            hint = MEND_HINT if there else INIT_HINT
            raise SinkMisconfigured(f"{self.label}: {'; '.join(differences)}", hint=hint)
        if own:
            raise SinkMisconfigured(f"{self.label}: {'; '.join(own)}", hint=OWN_TABLE_HINT)

    def check_writable(self) -> None:
        with connected(self._connector) as connection, connection.cursor() as cursor:
            cursor.execute(_WRITE_NOTHING)
            for name, columns in self._own_columns():
                cursor.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {name} WHERE FALSE")  # noqa: S608 - quoted

    def _own_columns(self) -> Iterator[tuple[str, str]]:
        """Name and columns of each table of the user's own, quoted."""
        for table in self._tables:
            yield quoted_name(table.name), ", ".join(quoted_name(column.name) for column in table.columns)

    def schema_state(self) -> SchemaState:
        return schema.state(self._connector, self._tables)

    def migrate(self) -> Migrated:
        return schema.migrate(self._connector, self._settings, self._tables)

    def upkeep(self, retain: timedelta | None, *, partitions: bool, dry_run: bool) -> Upkeep:
        return partitions_upkeep.upkeep(self._connector, self._settings, retain, partitions=partitions, dry_run=dry_run)

    def durability_warnings(self) -> list[str]:
        with connected(self._connector) as connection, connection.cursor() as cursor:
            self._server = probe(connection).label
            cursor.execute("SHOW GLOBAL VARIABLES WHERE variable_name IN (%s, %s, %s, %s)", DURABILITY_VARIABLES)
            variables = {str(name).lower(): str(value) for name, value in cursor.fetchall()}
            engine = schema.engine(cursor)
            own = own_tables.table_warnings(cursor, self._tables)
        return durability_warnings(variables, engine) + own

    def rows_of_run(self, run: str) -> Iterator[StoredRow]:
        with connected(self._connector) as connection:
            # Unbuffered: the server sends as fast as we read, whatever the size of the run.
            cursor: Any = connection.cursor(pymysql.cursors.SSCursor)
            with contextlib.closing(cursor):
                cursor.execute(_SELECT_RUN, key_range(run))
                yield from map(StoredRow._make, iter(cursor.fetchone, None))

    def count_run(self, run: str) -> int:
        with connected(self._connector) as connection, connection.cursor() as cursor:
            cursor.execute(_COUNT_RUN, key_range(run))
            row = cursor.fetchone()
        return int(row[0]) if row else 0

    def delete_run(self, run: str) -> int:
        deleted = 0
        with connected(self._connector) as connection, connection.cursor() as cursor:
            # In pieces: one big transaction would hold its locks, and its undo, for as long as it lasts.
            while piece := cursor.execute(_DELETE_RUN, key_range(run)):
                deleted += piece
        return deleted

    def close(self) -> None:
        self._pool.close()
