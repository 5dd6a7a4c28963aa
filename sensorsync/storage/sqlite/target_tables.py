"""Target tables in a SQLite file: their description by PRAGMAs, and the statements that correct a difference."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Final

from sensorsync.messages.reading import Column, TargetTable
from sensorsync.messages.reading.rows import ColumnKind
from sensorsync.storage.target_table import ColumnInfo, TableInfo, UniqueKeyInfo, differences, warnings

_DEFAULT_TYPES: Final[dict[ColumnKind | None, str]] = {
    "number": "REAL",
    "integer": "INTEGER",
    "boolean": "INTEGER",
    "text": "TEXT",
    "time": "TEXT",
    "json": "TEXT",
    "id": "BLOB",
    None: "NUMERIC",
}
_ACCEPTED_AFFINITIES: Final[dict[ColumnKind | None, frozenset[str]]] = {
    "number": frozenset({"REAL", "NUMERIC", "BLOB"}),
    "integer": frozenset({"INTEGER", "REAL", "NUMERIC", "BLOB"}),
    "boolean": frozenset({"INTEGER", "REAL", "NUMERIC", "BLOB"}),
    "text": frozenset({"TEXT", "BLOB"}),
    "time": frozenset({"TEXT", "NUMERIC", "BLOB"}),
    "json": frozenset({"TEXT", "NUMERIC", "BLOB"}),
    "id": frozenset({"BLOB", "NUMERIC"}),
    None: frozenset({"INTEGER", "REAL", "NUMERIC", "BLOB", "TEXT"}),
}
"""Kind -> the affinities of columns that store its values unchanged. DATETIME, JSON and BOOLEAN have the affinity NUMERIC."""


def quote_identifier(name: str) -> str:
    """Quote an identifier in double quotes."""
    return '"{}"'.format(name.replace('"', '""'))


def target_table_differences(connection: sqlite3.Connection, tables: Sequence[TargetTable]) -> list[str]:
    """Return a sentence for each reason why rows cannot be written to these tables.

    Each has the statement that fixes it, where one exists.
    """
    dialect = SqliteDialect()
    return [line for table in tables for line in differences(table, read_table_info(connection, table.name), dialect)]


def target_table_warnings(connection: sqlite3.Connection, tables: Sequence[TargetTable]) -> list[str]:
    """Return the sentences of `target_table.warnings` for these tables."""
    dialect = SqliteDialect()
    return [line for table in tables for line in warnings(table, read_table_info(connection, table.name), dialect)]


def read_table_info(connection: sqlite3.Connection, name: str) -> TableInfo | None:
    """Return the description of a table in the file, or None when it does not exist."""
    kind = connection.execute(
        "SELECT type FROM sqlite_master WHERE type IN ('table', 'view') AND lower(name) = lower(?)", (name,)
    ).fetchone()
    if kind is None:
        return None
    if kind != ("table",):
        return TableInfo((), (), (f"{name} is a {kind[0]}: rows need a table",))
    rows = connection.execute(
        'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)', (name,)
    ).fetchall()
    primary = [row[0].lower() for row in sorted(rows, key=lambda row: row[4]) if row[4]]
    keys, collations = unique_keys(connection, name)
    alias: list[str] = []
    if primary and "PRIMARY KEY" not in {key.name for key in keys}:
        alias = primary  # INTEGER PRIMARY KEY is the rowid and has no index
        keys.append(UniqueKeyInfo("PRIMARY KEY", tuple(alias)))
    columns = tuple(
        ColumnInfo(
            column,
            type_.lower(),
            nullable=not required,
            has_default=not required or default is not None or column.lower() in alias,
            default_is_unique=column.lower() in alias
            or (not required and default in {None, "NULL"} and hidden not in {2, 3}),
            generated=hidden in {2, 3},
            collation=collations.get(column.lower()),
        )
        for column, type_, required, default, _, hidden in rows
    )
    return TableInfo(columns, tuple(keys))


def unique_keys(connection: sqlite3.Connection, table: str) -> tuple[list[UniqueKeyInfo], dict[str, str]]:
    """Return the unique indexes, and the collations of their columns."""
    keys: list[UniqueKeyInfo] = []
    collations: dict[str, str] = {}
    indexes = connection.execute(
        'SELECT name, origin, partial FROM pragma_index_list(?) WHERE "unique" = 1 ORDER BY seq', (table,)
    ).fetchall()
    for name, origin, partial in indexes:
        parts = connection.execute("SELECT name, coll FROM pragma_index_xinfo(?) WHERE key = 1", (name,)).fetchall()
        columns = tuple(column.lower() for column, _ in parts if column is not None)
        collations |= {column.lower(): collation for column, collation in parts if column is not None}
        whole = not partial and len(columns) == len(parts)
        removal = f"DROP INDEX {quote_identifier(name)}" if origin == "c" else None
        keys.append(UniqueKeyInfo("PRIMARY KEY" if origin == "pk" else name, columns, whole, removal))
    return keys, collations


class SqliteDialect:
    """The `target_table.Dialect` of SQLite. An existing column cannot be altered; this requires a new table."""

    allows_null_in_key = True  # our rows never have NULL in the key, and PRIMARY KEY alone does not imply NOT NULL

    def can_store(self, kind: ColumnKind | None, found: ColumnInfo) -> bool:
        return _affinity(found.type) in _ACCEPTED_AFFINITIES[kind]

    def indexable(self, found: ColumnInfo) -> bool:  # noqa: ARG002 - see Dialect
        return True

    def lossy_key_reason(self, found: ColumnInfo) -> str | None:
        if found.collation in {None, "BINARY"}:
            return None
        return f"has the collation {found.collation}: texts that differ can count as the same"

    def coercion_reason(self, found: ColumnInfo) -> None:  # noqa: ARG002 - see Dialect
        return None

    def create_table(self, table: TargetTable) -> str:
        columns = [
            f"{quote_identifier(column.name)} {_DEFAULT_TYPES[column.kind]}{' NOT NULL' if column.name in table.key else ''}"
            for column in table.columns
        ]
        return f"CREATE TABLE {quote_identifier(table.name)} ({', '.join(columns)}, PRIMARY KEY ({_format_columns(table.key)}))"

    def add_column(self, table: TargetTable, column: Column) -> str:
        return f"ALTER TABLE {quote_identifier(table.name)} ADD COLUMN {quote_identifier(column.name)} {_DEFAULT_TYPES[column.kind]}"

    def change_column_type(self, table: TargetTable, column: Column, found: ColumnInfo) -> None:  # noqa: ARG002 - see above
        return None

    def set_nullability(self, table: TargetTable, found: ColumnInfo, *, not_null: bool) -> None:  # noqa: ARG002 - see above
        return None

    def add_unique_key(self, table: TargetTable, name: str) -> str:
        # Index names are unique in the file, not only in the table.
        index = quote_identifier(f"{table.name}_{name}")
        return f"CREATE UNIQUE INDEX {index} ON {quote_identifier(table.name)} ({_format_columns(table.key)})"


def _affinity(type_: str) -> str:
    """Return the affinity of a declared type (https://www.sqlite.org/datatype3.html#determination_of_column_affinity)."""
    for affinity, pattern in (
        ("INTEGER", "int"),
        ("TEXT", "char|clob|text"),
        ("BLOB", "blob|^$"),
        ("REAL", "real|floa|doub"),
    ):
        if re.search(pattern, type_):
            return affinity
    return "NUMERIC"


def _format_columns(names: Sequence[str]) -> str:
    return ",".join(map(quote_identifier, names))
