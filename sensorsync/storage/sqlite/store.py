"""SqliteStore: the operations of the commands on a database file."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Final, Literal

from sensorsync.errors import ConfigurationError
from sensorsync.messages.reading import TargetTable
from sensorsync.pipeline.contract import Sink, SinkMisconfigured
from sensorsync.storage.sqlite import retention
from sensorsync.storage.sqlite import target_tables as target_table_checks
from sensorsync.storage.sqlite.connect import database_connection
from sensorsync.storage.sqlite.sink import SqliteSink
from sensorsync.storage.store import (
    FIX_TABLE_HINT,
    INIT_HINT,
    READING_KEY,
    MaintenanceReport,
    MigrationResult,
    RunRowsDiffer,
    SchemaState,
    StoredRow,
    device_id_range,
)
from sensorsync.storage.target_table import TARGET_TABLE_HINT

_CREATE_MIGRATIONS_TABLE: Final = """\
-- The applied migrations.
CREATE TABLE IF NOT EXISTS sensorsync_migrations (
    version    INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
)"""
_COLUMNS: Final = {
    "device_id": "TEXT", "metric": "TEXT", "ts": "TEXT", "event_id": "BLOB", "value": "REAL", "value_text": "TEXT", "unit": "TEXT",
    "topic": "TEXT", "received_at": "TEXT", "revised_at": "TEXT", "payload": "TEXT",
}  # fmt: skip


@functools.cache
def migrations() -> tuple[tuple[int, str, str], ...]:
    """Return the number, name and script of each file of `sqlite/sql/*.sql`, in order."""
    files = resources.files("sensorsync.storage.sqlite").joinpath("sql").iterdir()
    return tuple(
        sorted(
            (int(file.name[:4]), file.name.removesuffix(".sql"), file.read_text(encoding="utf-8"))
            for file in files
            if file.name.endswith(".sql")
        )
    )


def schema_script() -> str:
    """Return all SQL that `init-db` would run on a new file, for the sqlite3 shell."""
    lines = ["PRAGMA journal_mode = WAL;\n", f"{_CREATE_MIGRATIONS_TABLE};\n"]
    for version, name, text in migrations():
        lines.append(f"-- Migration {name}\n\n{text.strip()}\n")
        lines.append(
            f"-- Applied.\nINSERT OR IGNORE INTO sensorsync_migrations (version, name) VALUES ({version}, '{name}');\n"
        )
    return "\n".join(lines)


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
            connection.execute("BEGIN IMMEDIATE")
            for name in ("sensor_readings", *(table.name for table in self._target_tables)):
                connection.execute(f"SELECT 1 FROM {target_table_checks.quote_identifier(name)} LIMIT 1")  # noqa: S608 - quoted
            connection.execute("ROLLBACK")

    def schema_state(self) -> SchemaState:
        if not self._path.exists():
            return SchemaState(False, (), tuple(name for _, name, _ in migrations()), ())
        with database_connection(self._path, read_only=True) as connection:
            return _read_schema_state(connection, self._target_tables)

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
            connection.execute(_CREATE_MIGRATIONS_TABLE)
            recorded = _applied_migrations(connection)
            now = [(version, name, text) for version, name, text in migrations() if version not in recorded]
            for version, name, text in now:
                for statement in text.split(";\n"):
                    connection.execute(statement)
                connection.execute(
                    "INSERT OR REPLACE INTO sensorsync_migrations (version, name) VALUES (?, ?)", (version, name)
                )
            connection.execute("COMMIT")
            return MigrationResult(
                created, tuple(name for _, name, _ in now), _read_schema_state(connection, self._target_tables)
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


def _applied_migrations(connection: sqlite3.Connection) -> dict[int, str]:
    table = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sensorsync_migrations'").fetchone()
    if not table:
        return {}
    recorded = dict(connection.execute("SELECT version, name FROM sensorsync_migrations ORDER BY version"))
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sensor_readings'").fetchone():
        return recorded
    # They do not count as applied when the table is gone, so that they create it again.
    known = {version for version, _, _ in migrations()}
    return {version: name for version, name in recorded.items() if version not in known}


def _read_schema_state(connection: sqlite3.Connection, target_tables: Sequence[TargetTable]) -> SchemaState:
    recorded = _applied_migrations(connection)
    known = {version for version, _, _ in migrations()}
    differences = [
        f"migration {name} is not known to this version of sensorsync, a newer one has applied it"
        for version, name in recorded.items()
        if version not in known
    ]
    columns = connection.execute("SELECT name, type, pk FROM pragma_table_info('sensor_readings')").fetchall()
    if not columns:
        differences.append("the table sensor_readings does not exist")
    else:
        actual = {name: kind for name, kind, _ in columns}
        differences += [f"sensor_readings has no column {name}" for name in _COLUMNS if name not in actual]
        differences += [
            f"sensor_readings.{name} is {actual[name]}, not {kind}"
            for name, kind in _COLUMNS.items()
            if actual.get(name, kind) != kind
        ]
        key = tuple(name for name, _, place in sorted(columns, key=lambda column: column[2]) if place)
        if key != READING_KEY:
            differences.append(
                f"the primary key of sensor_readings is ({', '.join(key)}), not ({', '.join(READING_KEY)})"
            )
    pending = tuple(name for version, name, _ in migrations() if version not in recorded)
    target_differences = tuple(target_table_checks.target_table_differences(connection, target_tables))
    return SchemaState(True, tuple(recorded.values()), pending, tuple(differences), target_differences)
