"""The schema of a database file: its migrations, its state, and how its tables differ from those that rows are written to."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from sensorsync.messages.reading import TargetTable
from sensorsync.pipeline.contract import SinkVerificationFailed
from sensorsync.storage.sqlite import target_tables as target_table_checks
from sensorsync.storage.store import FIX_TABLE_HINT, READING_KEY, SchemaState
from sensorsync.storage.target_table import READINGS_TABLE, TARGET_TABLE_HINT

CREATE_MIGRATIONS_TABLE: Final = """\
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
    lines = ["PRAGMA journal_mode = WAL;\n", f"{CREATE_MIGRATIONS_TABLE};\n"]
    for version, name, text in migrations():
        lines.append(f"-- Migration {name}\n\n{text.strip()}\n")
        lines.append(
            f"-- Applied.\nINSERT OR IGNORE INTO sensorsync_migrations (version, name) VALUES ({version}, '{name}');\n"
        )
    return "\n".join(lines)


def applied_migrations(connection: sqlite3.Connection) -> dict[int, str]:
    """Return the version and the name of the migrations that the file has recorded."""
    table = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sensorsync_migrations'").fetchone()
    if not table:
        return {}
    recorded = dict(connection.execute("SELECT version, name FROM sensorsync_migrations ORDER BY version"))
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sensor_readings'").fetchone():
        return recorded
    # They do not count as applied when the table is gone, so that they create it again.
    known = {version for version, _, _ in migrations()}
    return {version: name for version, name in recorded.items() if version not in known}


def read_schema_state(connection: sqlite3.Connection, target_tables: Sequence[TargetTable]) -> SchemaState:
    """Return the state of the schema, and change nothing."""
    recorded = applied_migrations(connection)
    known = {version for version, _, _ in migrations()}
    differences = [
        f"migration {name} is not known to this version of sensorsync, a newer one has applied it"
        for version, name in recorded.items()
        if version not in known
    ]
    differences += readings_table_differences(connection)
    pending = tuple(name for version, name, _ in migrations() if version not in recorded)
    target_differences = tuple(target_table_checks.target_table_differences(connection, target_tables))
    return SchemaState(True, tuple(recorded.values()), pending, tuple(differences), target_differences)


def readings_table_differences(connection: sqlite3.Connection) -> list[str]:
    """Return sentences: where `sensor_readings` differs from the table that rows are written to."""
    differences: list[str] = []
    columns = connection.execute("SELECT name, type, pk FROM pragma_table_info('sensor_readings')").fetchall()
    if not columns:
        return ["the table sensor_readings does not exist"]
    actual = {name: kind for name, kind, _ in columns}
    differences += [f"sensor_readings has no column {name}" for name in _COLUMNS if name not in actual]
    differences += [
        f"sensor_readings.{name} is {actual[name]}, not {kind}"
        for name, kind in _COLUMNS.items()
        if actual.get(name, kind) != kind
    ]
    key = tuple(name for name, _, place in sorted(columns, key=lambda column: column[2]) if place)
    if key != READING_KEY:
        differences.append(f"the primary key of sensor_readings is ({', '.join(key)}), not ({', '.join(READING_KEY)})")
    keys, collations = target_table_checks.unique_keys(connection, READINGS_TABLE)
    differences += [
        f"sensor_readings has a second unique key, {unique.name}: it would refuse readings"
        for unique in keys
        if unique.name != "PRIMARY KEY"
    ]
    differences += [
        f"sensor_readings.{name} has the collation {collations[name]}: ids that differ would count as the same"
        for name in READING_KEY
        if collations.get(name, "BINARY") != "BINARY"
    ]
    return differences


def verify_tables(connection: sqlite3.Connection, path: Path, target_tables: Sequence[TargetTable]) -> None:
    """Return when rows can be written to the tables as they are; SinkVerificationFailed where one has changed.

    A table that is missing is left to the statement that needs it.
    """
    if _has(connection, READINGS_TABLE) and (found := readings_table_differences(connection)):
        raise SinkVerificationFailed(f"{path}: {'; '.join(found)}", hint=FIX_TABLE_HINT)
    there = [table for table in target_tables if _has(connection, table.name)]
    if found := target_table_checks.target_table_differences(connection, there):
        raise SinkVerificationFailed(f"{path}: {'; '.join(found)}", hint=TARGET_TABLE_HINT)


def _has(connection: sqlite3.Connection, table: str) -> bool:
    return bool(connection.execute("SELECT 1 FROM pragma_table_info(?) LIMIT 1", (table,)).fetchone())
