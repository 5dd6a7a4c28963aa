"""SqliteStore: the operations of the commands on a database file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Literal

from sensorsync.errors import ConfigurationError
from sensorsync.messages.reading import TargetTable
from sensorsync.pipeline.contract import Sink, SinkMisconfigured
from sensorsync.storage.sqlite import retention
from sensorsync.storage.sqlite import target_tables as target_table_checks
from sensorsync.storage.sqlite.connect import database_connection
from sensorsync.storage.sqlite.schema import (
    CREATE_MIGRATIONS_TABLE,
    applied_migrations,
    migrations,
    read_schema_state,
    verify_tables,
)
from sensorsync.storage.sqlite.sink import SqliteSink
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


class SqliteStore:
    """The `store.Store` of a database file."""

    def __init__(
        self,
        path: Path,
        conflict: Literal["first", "last", "newest"] = "first",
        target_tables: tuple[TargetTable, ...] = (),
    ) -> None:
        self._path = path
        self._target_tables = target_tables
        self._conflict: Literal["first", "last", "newest"] = conflict

    @property
    def pool_counters(self) -> None:
        """None, because SQLite has no connection pool."""

    @property
    def label(self) -> str:
        return f"SQLite {sqlite3.sqlite_version} at {self._path}"

    def create_sink(self, worker: int) -> Sink:  # noqa: ARG002 - the number is for MySQL's log messages
        return SqliteSink(self._path, self._conflict, self._target_tables)

    def check_schema(self) -> None:
        state = self.schema_state()
        if not state.database_exists:
            raise SinkMisconfigured(f"{self._path} does not exist", hint=INIT_HINT)
        if state.differences:
            hint = INIT_HINT if state.pending_migrations else FIX_TABLE_HINT
            raise SinkMisconfigured(f"{self._path}: {'; '.join(state.differences)}", hint=hint)
        if state.target_table_differences:
            raise SinkMisconfigured(
                f"{self._path}: {'; '.join(state.target_table_differences)}", hint=TARGET_TABLE_HINT
            )

    def check_writable(self) -> None:
        with database_connection(self._path) as connection:
            verify_tables(connection, self._path, self._target_tables)
            connection.execute("BEGIN IMMEDIATE")
            for name in ("sensor_readings", *(table.name for table in self._target_tables)):
                connection.execute(f"SELECT 1 FROM {target_table_checks.quote_identifier(name)} LIMIT 1")  # noqa: S608 - quoted
            connection.execute("ROLLBACK")

    def schema_state(self) -> SchemaState:
        if not self._path.exists():
            return SchemaState(False, (), tuple(name for _, name, _ in migrations()), ())
        with database_connection(self._path, read_only=True) as connection:
            return read_schema_state(connection, self._target_tables)

    def migrate(self) -> MigrationResult:
        created = not self._path.exists()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkMisconfigured(
                f"cannot make the folder of {self._path}: {error.strerror}", hint="check database.path"
            ) from error
        with database_connection(self._path, create=True) as connection:
            connection.execute("BEGIN IMMEDIATE")  # concurrent calls run one after the other
            connection.execute(CREATE_MIGRATIONS_TABLE)
            recorded = applied_migrations(connection)
            now = [(version, name, text) for version, name, text in migrations() if version not in recorded]
            for version, name, text in now:
                for statement in text.split(";\n"):
                    connection.execute(statement)
                connection.execute(
                    "INSERT OR REPLACE INTO sensorsync_migrations (version, name) VALUES (?, ?)", (version, name)
                )
            connection.execute("COMMIT")
            return MigrationResult(
                created, tuple(name for _, name, _ in now), read_schema_state(connection, self._target_tables)
            )

    def maintain(self, retain: timedelta | None, *, partitions: bool, dry_run: bool) -> MaintenanceReport:
        if partitions:
            raise ConfigurationError("SQLite has no partitions.")
        return (
            MaintenanceReport(None)
            if retain is None
            else retention.delete_expired_readings(self._path, retain, dry_run=dry_run)
        )

    def durability_warnings(self) -> list[str]:
        if not self._target_tables:
            return []
        with database_connection(self._path, read_only=True) as connection:
            return target_table_checks.target_table_warnings(connection, self._target_tables)

    def rows_of_run(self, run: str) -> Iterator[StoredRow]:
        with database_connection(self._path, read_only=True) as connection:
            rows = connection.execute(
                "SELECT device_id, event_id, metric, ts, value, payload FROM sensor_readings"
                " WHERE device_id >= ? AND device_id < ? ORDER BY device_id, metric, ts, event_id",
                device_id_range(run),
            )
            yield from map(StoredRow._make, rows)

    def count_run_rows(self, run: str) -> int:
        with database_connection(self._path, read_only=True) as connection:
            row = connection.execute(
                "SELECT count(*) FROM sensor_readings WHERE device_id >= ? AND device_id < ?", device_id_range(run)
            ).fetchone()
        return int(row[0])

    def delete_run_rows(self, run: str, expected: int) -> int:
        with database_connection(self._path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            deleted = connection.execute(
                "DELETE FROM sensor_readings WHERE device_id >= ? AND device_id < ?", device_id_range(run)
            ).rowcount
            connection.execute("COMMIT" if deleted == expected else "ROLLBACK")
        if deleted != expected:
            raise RunRowsDiffer(deleted)
        return deleted

    def close(self) -> None:
        """Do nothing, because no connection stays open between calls."""
