"""MySqlStore: the operations of the commands on a MySQL or MariaDB server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import pymysql.cursors

from sensorsync.config import DatabaseSettings
from sensorsync.messages.reading import TargetTable
from sensorsync.pipeline.contract import Sink, SinkMisconfigured
from sensorsync.pipeline.counters import ConnectionPoolCounters
from sensorsync.storage.mysql import partition_maintenance, schema, target_tables
from sensorsync.storage.mysql.comparison_rows import AcceptedRows
from sensorsync.storage.mysql.connect import ConnectionPool
from sensorsync.storage.mysql.migrations import quote_identifier
from sensorsync.storage.mysql.schema import database_connection
from sensorsync.storage.mysql.server import DURABILITY_VARIABLES, durability_warnings
from sensorsync.storage.mysql.session import query_server_info
from sensorsync.storage.mysql.sink import MySqlSink
from sensorsync.storage.mysql.table_verifier import TableVerifier
from sensorsync.storage.store import (
    FIX_TABLE_HINT,
    INIT_HINT,
    MaintenanceReport,
    MigrationResult,
    RunRowsDiffer,
    SchemaState,
    StoredRow,
    device_id_range,
)
from sensorsync.storage.target_table import TARGET_TABLE_HINT

_SELECT_RUN: Final = (
    "SELECT device_id, event_id, metric, CAST(ts AS CHAR), value, payload FROM sensor_readings"
    " WHERE device_id >= %s AND device_id < %s ORDER BY device_id, metric, ts, event_id"
)
_COUNT_RUN: Final = "SELECT COUNT(*) FROM sensor_readings WHERE device_id >= %s AND device_id < %s"
_INSERT_NO_ROWS: Final = (
    "INSERT INTO sensor_readings (device_id, metric, ts, event_id, topic, received_at, payload)"
    " SELECT '', '', '2000-01-01', '', '', '2000-01-01', '{}' FROM DUAL WHERE FALSE"
)
"""A statement that writes no row and takes no row lock, but fails wherever an insert would.

Causes are, for example, a read-only server, a missing privilege or a missing table.
"""
_DELETE_RUN: Final = (
    "DELETE FROM sensor_readings WHERE device_id >= %s AND device_id < %s"
    " ORDER BY device_id, metric, ts, event_id LIMIT %s"
)
_DELETE_ROWS: Final = 10_000


class MySqlStore:
    """The `store.Store` of a MySQL or MariaDB server. It connects at the first operation."""

    def __init__(self, settings: DatabaseSettings, target_tables: tuple[TargetTable, ...] = ()) -> None:
        self._settings = settings
        self._target_tables = target_tables
        self._pool = ConnectionPool(settings)
        self._connector = self._pool.connector
        self._verifier = TableVerifier()
        self._server_label = ""
        self._accepted_rows = AcceptedRows()

    @property
    def pool_counters(self) -> ConnectionPoolCounters:
        return self._pool.counters

    @property
    def label(self) -> str:
        return f"{self._server_label or 'MySQL'} at {self._connector.address}, database {self._settings.name}"

    def create_sink(self, worker: int) -> Sink:
        return MySqlSink(
            self._pool,
            self._settings.conflict,
            worker=worker,
            target_tables=self._target_tables,
            verifier=self._verifier,
            accepted_rows=self._accepted_rows,
        )

    def check_schema(self) -> None:
        with database_connection(self._connector) as connection, connection.cursor() as cursor:
            self._server_label = query_server_info(connection).label
            table_exists = schema.readings_engine(cursor) is not None
            differences = schema.readings_table_differences(cursor)
            target_differences = target_tables.target_table_differences(cursor, self._target_tables)
        if differences:
            hint = FIX_TABLE_HINT if table_exists else INIT_HINT
            raise SinkMisconfigured(f"{self.label}: {'; '.join(differences)}", hint=hint)
        if target_differences:
            raise SinkMisconfigured(f"{self.label}: {'; '.join(target_differences)}", hint=TARGET_TABLE_HINT)

    def check_writable(self) -> None:
        with database_connection(self._connector) as connection, connection.cursor() as cursor:
            for table in (None, *self._target_tables):
                self._verifier.verify(cursor, table, self._connector.address)
            cursor.execute(_INSERT_NO_ROWS)
            for name, columns in self._target_table_columns():
                cursor.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {name} WHERE FALSE")  # noqa: S608 - quoted

    def _target_table_columns(self) -> Iterator[tuple[str, str]]:
        """Yield the quoted name and the quoted columns of each target table."""
        for table in self._target_tables:
            yield quote_identifier(table.name), ", ".join(quote_identifier(column.name) for column in table.columns)

    def schema_state(self) -> SchemaState:
        return schema.read_schema_state(self._connector, self._target_tables)

    def migrate(self) -> MigrationResult:
        return schema.migrate(self._connector, self._settings, self._target_tables)

    def maintain(self, retain: timedelta | None, *, partitions: bool, dry_run: bool) -> MaintenanceReport:
        return partition_maintenance.maintain_partitions(
            self._connector, self._settings, retain, partitions=partitions, dry_run=dry_run
        )

    def durability_warnings(self) -> list[str]:
        with database_connection(self._connector) as connection, connection.cursor() as cursor:
            self._server_label = query_server_info(connection).label
            cursor.execute("SHOW GLOBAL VARIABLES WHERE variable_name IN (%s, %s, %s, %s)", DURABILITY_VARIABLES)
            variables = {str(name).lower(): str(value) for name, value in cursor.fetchall()}
            engine = schema.readings_engine(cursor)
            target_warnings = target_tables.target_table_warnings(cursor, self._target_tables)
        return durability_warnings(variables, engine) + target_warnings

    def rows_of_run(self, run: str) -> Iterator[StoredRow]:
        with database_connection(self._connector) as connection:
            # An unbuffered cursor, so that memory does not grow with the size of the run.
            cursor: Any = connection.cursor(pymysql.cursors.SSCursor)
            with contextlib.closing(cursor):
                cursor.execute(_SELECT_RUN, device_id_range(run))
                yield from map(StoredRow._make, iter(cursor.fetchone, None))

    def count_run_rows(self, run: str) -> int:
        with database_connection(self._connector) as connection, connection.cursor() as cursor:
            cursor.execute(_COUNT_RUN, device_id_range(run))
            row = cursor.fetchone()
        return int(row[0]) if row else 0

    def delete_run_rows(self, run: str, expected: int) -> int:
        deleted = 0
        with database_connection(self._connector) as connection, connection.cursor() as cursor:
            # A locking read is executed where the rows are deleted, also behind a proxy that sends other reads to a replica.
            connection.begin()
            cursor.execute(f"{_COUNT_RUN} FOR UPDATE", device_id_range(run))
            found = int((cursor.fetchone() or (0,))[0])
            connection.rollback()
            if found != expected:
                raise RunRowsDiffer(found)
            # Several small transactions, because a big one would hold its locks and its undo log until its end.
            while piece := cursor.execute(_DELETE_RUN, (*device_id_range(run), min(_DELETE_ROWS, expected - deleted))):
                deleted += piece
        return deleted

    def close(self) -> None:
        self._pool.close()
