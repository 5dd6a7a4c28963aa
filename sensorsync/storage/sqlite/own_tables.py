"""Tables of the user's own in a SQLite file: what its PRAGMAs say of them, and the statements that make them fit."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Final

from sensorsync.messages.reading import Column, OwnTable
from sensorsync.messages.reading.rows import Kind
from sensorsync.storage.target_table import FoundColumn, FoundKey, FoundTable, differences, warnings

_TYPE_FOR: Final[dict[Kind | None, str]] = {
    "number": "REAL",
    "integer": "INTEGER",
    "boolean": "INTEGER",
    "text": "TEXT",
    "time": "TEXT",
    "json": "TEXT",
    "id": "BLOB",
    None: "NUMERIC",
}
_AFFINITIES: Final[dict[Kind | None, frozenset[str]]] = {
    "number": frozenset({"REAL", "NUMERIC", "BLOB"}),
    "integer": frozenset({"INTEGER", "REAL", "NUMERIC", "BLOB"}),
    "boolean": frozenset({"INTEGER", "REAL", "NUMERIC", "BLOB"}),
    "text": frozenset({"TEXT", "BLOB"}),
    "time": frozenset({"TEXT", "NUMERIC", "BLOB"}),
    "json": frozenset({"TEXT", "NUMERIC", "BLOB"}),
    "id": frozenset({"BLOB", "NUMERIC"}),
    None: frozenset({"INTEGER", "REAL", "NUMERIC", "BLOB", "TEXT"}),
}
"""Kind -> the affinities of columns that keep such values as they are. DATETIME, JSON and BOOLEAN are names of NUMERIC."""


def quoted(name: str) -> str:
    """An identifier in double quotes."""
    return '"{}"'.format(name.replace('"', '""'))


def table_differences(connection: sqlite3.Connection, tables: Sequence[OwnTable]) -> list[str]:
    """Sentences: why rows cannot go into these tables, each with the statement that mends it, where there is one."""
    dialect = SqliteDialect()
    return [line for table in tables for line in differences(table, found_table(connection, table.name), dialect)]


def table_warnings(connection: sqlite3.Connection, tables: Sequence[OwnTable]) -> list[str]:
    """Sentences: see `own_tables.warnings`."""
    dialect = SqliteDialect()
    return [line for table in tables for line in warnings(table, found_table(connection, table.name), dialect)]


def found_table(connection: sqlite3.Connection, name: str) -> FoundTable | None:
    """What the file says of a table; None where it has none."""
    kind = connection.execute(
        "SELECT type FROM sqlite_master WHERE type IN ('table', 'view') AND lower(name) = lower(?)", (name,)
    ).fetchone()
    if kind is None:
        return None
    if kind != ("table",):
        return FoundTable((), (), (f"{name} is a {kind[0]}: rows need a table",))
    rows = connection.execute(
        'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)', (name,)
    ).fetchall()
    primary = [row[0].lower() for row in sorted(rows, key=lambda row: row[4]) if row[4]]
    keys, collations = _keys(connection, name)
    alias: list[str] = []
    if primary and "PRIMARY KEY" not in {key.name for key in keys}:
        alias = primary  # INTEGER PRIMARY KEY is the rowid, which needs no index
        keys.append(FoundKey("PRIMARY KEY", tuple(alias)))
    columns = tuple(
        FoundColumn(
            column,
            type_.lower(),
            nullable=not required,
            filled=not required or default is not None or column.lower() in alias,
            always_new=column.lower() in alias or (not required and default in {None, "NULL"} and hidden not in {2, 3}),
            generated=hidden in {2, 3},
            collation=collations.get(column.lower()),
        )
        for column, type_, required, default, _, hidden in rows
    )
    return FoundTable(columns, tuple(keys))


def _keys(connection: sqlite3.Connection, table: str) -> tuple[list[FoundKey], dict[str, str]]:
    """The unique indexes, and the collations of their columns."""
    keys: list[FoundKey] = []
    collations: dict[str, str] = {}
    indexes = connection.execute(
        'SELECT name, origin, partial FROM pragma_index_list(?) WHERE "unique" = 1 ORDER BY seq', (table,)
    ).fetchall()
    for name, origin, partial in indexes:
        parts = connection.execute("SELECT name, coll FROM pragma_index_xinfo(?) WHERE key = 1", (name,)).fetchall()
        columns = tuple(column.lower() for column, _ in parts if column is not None)
        collations |= {column.lower(): collation for column, collation in parts if column is not None}
        whole = not partial and len(columns) == len(parts)
        removal = f"DROP INDEX {quoted(name)}" if origin == "c" else None
        keys.append(FoundKey("PRIMARY KEY" if origin == "pk" else name, columns, whole, removal))
    return keys, collations


class SqliteDialect:
    """See `own_tables.Dialect`. A column that is there cannot be altered: that takes a new table."""

    null_in_keys = True  # no row of ours has one there, and PRIMARY KEY alone does not say NOT NULL

    def fits(self, kind: Kind | None, found: FoundColumn) -> bool:
        return _affinity(found.type) in _AFFINITIES[kind]

    def indexable(self, found: FoundColumn) -> bool:  # noqa: ARG002 - see Dialect
        return True

    def blurs(self, found: FoundColumn) -> str | None:
        if found.collation in {None, "BINARY"}:
            return None
        return f"has the collation {found.collation}: texts that differ can count as the same"

    def misreads(self, found: FoundColumn) -> None:  # noqa: ARG002 - see Dialect
        return None

    def create(self, table: OwnTable) -> str:
        columns = [
            f"{quoted(column.name)} {_TYPE_FOR[column.kind]}{' NOT NULL' if column.name in table.key else ''}"
            for column in table.columns
        ]
        return f"CREATE TABLE {quoted(table.name)} ({', '.join(columns)}, PRIMARY KEY ({_listed(table.key)}))"

    def add(self, table: OwnTable, column: Column) -> str:
        return f"ALTER TABLE {quoted(table.name)} ADD COLUMN {quoted(column.name)} {_TYPE_FOR[column.kind]}"

    def retype(self, table: OwnTable, column: Column, found: FoundColumn) -> None:  # noqa: ARG002 - see above
        return None

    def require(self, table: OwnTable, found: FoundColumn, *, value: bool) -> None:  # noqa: ARG002 - see above
        return None

    def add_key(self, table: OwnTable, name: str) -> str:
        # The names of indexes are those of the file, not of the table.
        return f"CREATE UNIQUE INDEX {quoted(f'{table.name}_{name}')} ON {quoted(table.name)} ({_listed(table.key)})"


def _affinity(type_: str) -> str:
    """What a declared type means (https://www.sqlite.org/datatype3.html#determination_of_column_affinity)."""
    for affinity, pattern in (
        ("INTEGER", "int"),
        ("TEXT", "char|clob|text"),
        ("BLOB", "blob|^$"),
        ("REAL", "real|floa|doub"),
    ):
        if re.search(pattern, type_):
            return affinity
    return "NUMERIC"


def _listed(names: Sequence[str]) -> str:
    return ",".join(map(quoted, names))
