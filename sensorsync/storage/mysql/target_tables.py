"""Target tables on MySQL and MariaDB: their description in information_schema, and the statements that correct a difference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from sensorsync.messages.reading import Column, TargetTable
from sensorsync.messages.reading.rows import ColumnKind
from sensorsync.storage.mysql.auto_increment import read_auto_increment
from sensorsync.storage.mysql.migrations import quote_identifier
from sensorsync.storage.mysql.server import decode_text
from sensorsync.storage.target_table import (
    ColumnInfo,
    TableInfo,
    UniqueKeyInfo,
    differences,
    format_difference,
    warnings,
)

_TYPE = re.compile(r"(\w+)(?:\((\d+)\))?")
_TEXTS: Final = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
_INTEGERS: Final = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
_FRACTIONS: Final = frozenset({"decimal", "float", "double"})
_TIMES: Final = frozenset({"datetime", "timestamp"})
_UNINDEXABLE_TYPES: Final = frozenset(
    {"tinytext", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob", "json"}
)

_ACCEPTED_TYPES: Final[dict[ColumnKind | None, frozenset[str]]] = {
    "number": _FRACTIONS,
    "integer": _INTEGERS | _FRACTIONS,
    "boolean": _INTEGERS | {"bit"},
    "text": _TEXTS | {"enum", "set", "uuid", "inet4", "inet6"},
    "time": _TIMES | _TEXTS,
    "json": _TEXTS | {"json"},
    "id": frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "uuid"}),
    None: _FRACTIONS | _TEXTS,
}
"""Kind -> the column types that store its values unchanged, or reject a value.

An INT column would silently round a fraction, and an ENUM would take a number as a position in its list.
"""
_DEFAULT_TYPES: Final[dict[ColumnKind | None, str]] = {
    "number": "DOUBLE",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
    "text": "TEXT",
    "time": "DATETIME(6)",
    "json": "JSON",
    "id": "BINARY(16)",
    None: "TEXT",
}
_KEY_TEXT_TYPE: Final = "VARCHAR(128)"
_COLLATION_CLAUSE: Final = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
_TIME_LENGTH: Final = 26
_ID_LENGTH: Final = 16
_UNIQUE_DEFAULT = re.compile(r"\b(?:uuid|uuid_short|sys_guid|nextval)\(|\bnext value for\b", re.IGNORECASE)

_TABLE: Final = (
    "SELECT t.table_type, t.engine, e.transactions FROM information_schema.tables t"
    " LEFT JOIN information_schema.engines e ON e.engine = t.engine WHERE t.table_schema = DATABASE() AND t.table_name = %s"
)
_COLUMNS: Final = (
    "SELECT column_name, column_type, is_nullable, CAST(column_default AS BINARY), extra, collation_name"
    " FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = %s ORDER BY ordinal_position"
)
_PARTITIONS: Final = (
    "SELECT DISTINCT partition_method, partition_expression FROM information_schema.partitions"
    " WHERE table_schema = DATABASE() AND table_name = %s AND partition_name IS NOT NULL"
)
_KEYS: Final = (
    "SELECT index_name, column_name, sub_part FROM information_schema.statistics"
    " WHERE table_schema = DATABASE() AND table_name = %s AND non_unique = 0 ORDER BY index_name, seq_in_index"
)


def target_table_differences(cursor: Any, tables: Sequence[TargetTable]) -> list[str]:
    """Return a sentence for each reason why rows cannot be written to these tables.

    Each has the statement that fixes it, where one exists.
    """
    dialect = MySqlDialect()
    return [line for table in tables for line in differences(table, read_table_info(cursor, table.name), dialect)]


def target_table_warnings(cursor: Any, tables: Sequence[TargetTable]) -> list[str]:
    """Return the sentences of `target_table.warnings` for these tables."""
    dialect = MySqlDialect()
    lines = [line for table in tables for line in warnings(table, read_table_info(cursor, table.name), dialect)]
    counters = [read_auto_increment(cursor, table.name) for table in tables]
    return lines + [line for counter in counters if counter and (line := counter.warning())]


def read_table_info(cursor: Any, name: str) -> TableInfo | None:
    """Return the server's description of a table in the connection's database.

    None when no such table exists, or this account may not see it.
    """
    cursor.execute(_TABLE, (name,))
    row = cursor.fetchone()
    if row is None:
        return None
    kind, engine, transactions = (_text(value) for value in row)
    if kind == "VIEW":
        return TableInfo((), (), (f"{name} is a view: rows need a table",))
    faults = []
    if transactions != "YES":
        sentence = f"the engine of {name} is {engine}, which has no transactions"
        faults.append(format_difference(sentence, f"ALTER TABLE {quote_identifier(name)} ENGINE = InnoDB"))
    cursor.execute(_COLUMNS, (name,))
    columns = tuple(_column_info(row) for row in cursor.fetchall())
    cursor.execute(_KEYS, (name,))
    return TableInfo(columns, _unique_keys(name, cursor.fetchall()), tuple(faults))


def range_partition_columns(cursor: Any, name: str) -> set[str]:
    """Return the columns, in lower case, of a table's RANGE partitioning. The set is empty for any other partitioning."""
    cursor.execute(_PARTITIONS, (name,))
    return {
        word
        for method, expression in cursor.fetchall()
        if _text(method).startswith("RANGE")
        for word in re.split(r"[`(), ]+", _text(expression).lower())
    }


def has_partitions(cursor: Any, name: str) -> bool:
    """Return True where a table is partitioned, in whatever way."""
    return bool(cursor.execute(_PARTITIONS, (name,)))


def _column_info(row: Sequence[Any]) -> ColumnInfo:
    """Return the column of a row of information_schema.columns. MariaDB has `NULL` where the default is NULL, MySQL has nothing."""
    name, type_, nullable, default, extra, collation = (None if value is None else _text(value) for value in row)
    null, counted = nullable == "YES", "auto_increment" in (extra or "").lower()
    generated = bool(re.search(r"\b(?:virtual|stored|persistent)\b", extra or "", re.IGNORECASE))
    fresh = counted or (null and default in {None, "NULL"}) or bool(_UNIQUE_DEFAULT.search(default or ""))
    return ColumnInfo(
        name or "",
        (type_ or "").lower(),
        nullable=null,
        has_default=null or counted or default is not None,
        default_is_unique=fresh and not generated,  # a value computed from written columns can equal another row's
        generated=generated,
        collation=collation,
    )


def _unique_keys(table: str, rows: Sequence[Sequence[Any]]) -> tuple[UniqueKeyInfo, ...]:
    parts: dict[str, list[tuple[str, bool]]] = {}
    for index, column, prefix in rows:
        # A key part that is an expression has no column name.
        parts.setdefault(_text(index), []).append((_text(column).lower(), column is not None and prefix is None))
    return tuple(
        UniqueKeyInfo(
            name,
            tuple(column for column, _ in columns if column),
            compares_whole_columns=all(whole for _, whole in columns),
            drop_statement=f"ALTER TABLE {quote_identifier(table)} DROP "
            + ("PRIMARY KEY" if name == "PRIMARY" else f"KEY {quote_identifier(name)}"),
        )
        for name, columns in parts.items()
    )


def _text(value: Any) -> str:
    return "" if value is None else decode_text(value)


class MySqlDialect:
    """The `target_table.Dialect` of MySQL and MariaDB."""

    allows_null_in_key = False

    def can_store(self, kind: ColumnKind | None, found: ColumnInfo) -> bool:
        name, length = _parse_type(found)
        if name not in _ACCEPTED_TYPES[kind]:
            return False
        if kind == "time" and name in {"char", "varchar"}:
            return length >= _TIME_LENGTH
        if kind == "id" and name in {"binary", "varbinary"}:
            return length == _ID_LENGTH or (name == "varbinary" and length > _ID_LENGTH)  # BINARY pads with zeros
        return True

    def indexable(self, found: ColumnInfo) -> bool:
        return _parse_type(found)[0] not in _UNINDEXABLE_TYPES

    def lossy_key_reason(self, found: ColumnInfo) -> str | None:
        name, digits = _parse_type(found)
        if found.collation and not re.search(r"_(?:bin|cs)(?:_|$)|^binary$", found.collation):
            return f"has the collation {found.collation}: texts that differ only in case or accents count as the same"
        if name in _TIMES and digits < 6:
            return f"is {found.type}: it keeps {digits} of 6 digits of a second, and times that differ by less count as the same"
        if name in _FRACTIONS and found.type != "double":
            return f"is {found.type}: it rounds, and numbers that differ by less than it keeps count as the same"
        return None

    def coercion_reason(self, found: ColumnInfo) -> str | None:
        if _parse_type(found)[0] in {"enum", "set"}:
            return f"is {found.type}: a text of digits that is none of these is stored as the one in that place"
        return None

    def create_table(self, table: TargetTable) -> str:
        columns = [
            f"{quote_identifier(column.name)} {_default_type(table, column)}{' NOT NULL' if _in_key(table, column.name) else ''}"
            for column in table.columns
        ]
        options = "ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin"
        return (
            f"CREATE TABLE {quote_identifier(table.name)} ({', '.join(columns)},"
            f" PRIMARY KEY ({_format_columns(table.key)})) {options}"
        )

    def add_column(self, table: TargetTable, column: Column) -> str:
        return f"{_alter_table(table)} ADD COLUMN {quote_identifier(column.name)} {_column_definition(table, column)}"

    def change_column_type(self, table: TargetTable, column: Column, found: ColumnInfo) -> str:
        null = found.nullable and not _in_key(table, column.name)
        definition = _column_definition(table, column, null=null)
        return f"{_alter_table(table)} MODIFY {quote_identifier(found.name)} {definition}"

    def set_nullability(self, table: TargetTable, found: ColumnInfo, *, not_null: bool) -> str:
        collated = f" COLLATE {found.collation}" if found.collation else ""
        null = "NOT NULL" if not_null else "NULL"
        return f"{_alter_table(table)} MODIFY {quote_identifier(found.name)} {found.type}{collated} {null}"

    def add_unique_key(self, table: TargetTable, name: str) -> str:
        return f"{_alter_table(table)} ADD UNIQUE KEY {quote_identifier(name)} ({_format_columns(table.key)})"


def _parse_type(found: ColumnInfo) -> tuple[str, int]:
    """Split `varchar(64)` into (`varchar`, 64). The number is 0 where the type has none."""
    match = _TYPE.match(found.type)
    return (match[1], int(match[2] or 0)) if match else ("", 0)


def _default_type(table: TargetTable, column: Column) -> str:
    name = _DEFAULT_TYPES[column.kind]
    return _KEY_TEXT_TYPE if name in {"TEXT", "JSON"} and _in_key(table, column.name) else name


def _column_definition(table: TargetTable, column: Column, *, null: bool = True) -> str:
    name = _default_type(table, column)
    collated = _COLLATION_CLAUSE if name in {"TEXT", _KEY_TEXT_TYPE} else ""
    return f"{name}{collated} {'NULL' if null and not _in_key(table, column.name) else 'NOT NULL'}"


def _in_key(table: TargetTable, name: str) -> bool:
    return name.lower() in {one.lower() for one in table.key}


def _alter_table(table: TargetTable) -> str:
    return f"ALTER TABLE {quote_identifier(table.name)}"


def _format_columns(names: Sequence[str]) -> str:
    return ",".join(map(quote_identifier, names))
