"""Tables of the user's own on MySQL and MariaDB: what information_schema says of them, and the statements that make them fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from sensorsync.messages.reading import Column, OwnTable
from sensorsync.messages.reading.rows import Kind
from sensorsync.storage.mysql.migrations import quoted_name
from sensorsync.storage.mysql.server import as_text
from sensorsync.storage.target_table import FoundColumn, FoundKey, FoundTable, differences, said, warnings

_TYPE = re.compile(r"(\w+)(?:\((\d+)\))?")
_TEXTS: Final = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
_INTEGERS: Final = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
_FRACTIONS: Final = frozenset({"decimal", "float", "double"})
_TIMES: Final = frozenset({"datetime", "timestamp"})
_LONG: Final = frozenset(
    {"tinytext", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob", "json"}
)

_TYPES_OF: Final[dict[Kind | None, frozenset[str]]] = {
    "number": _FRACTIONS,
    "integer": _INTEGERS | _FRACTIONS,
    "boolean": _INTEGERS | {"bit"},
    "text": _TEXTS | {"enum", "set", "uuid", "inet4", "inet6"},
    "time": _TIMES | _TEXTS,
    "json": _TEXTS | {"json"},
    "id": frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "uuid"}),
    None: _FRACTIONS | _TEXTS,
}
"""Kind -> the types that keep its values, or refuse one. An INT column would round a fraction without a word, an ENUM take a number
for a place in its list."""
_TYPE_FOR: Final[dict[Kind | None, str]] = {
    "number": "DOUBLE",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
    "text": "TEXT",
    "time": "DATETIME(6)",
    "json": "JSON",
    "id": "BINARY(16)",
    None: "TEXT",
}
_KEY_TEXT: Final = "VARCHAR(128)"
_COLLATED: Final = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
_TIME_LENGTH: Final = 26
_ID_LENGTH: Final = 16
_NEVER_TWICE = re.compile(r"\b(?:uuid|uuid_short|sys_guid|nextval)\(|\bnext value for\b", re.IGNORECASE)

_TABLE: Final = (
    "SELECT t.table_type, t.engine, e.transactions FROM information_schema.tables t"
    " LEFT JOIN information_schema.engines e ON e.engine = t.engine WHERE t.table_schema = DATABASE() AND t.table_name = %s"
)
_COLUMNS: Final = (
    "SELECT column_name, column_type, is_nullable, column_default, extra, collation_name FROM information_schema.columns"
    " WHERE table_schema = DATABASE() AND table_name = %s ORDER BY ordinal_position"
)
_PARTITIONS: Final = (
    "SELECT DISTINCT partition_method, partition_expression FROM information_schema.partitions"
    " WHERE table_schema = DATABASE() AND table_name = %s AND partition_name IS NOT NULL"
)
_KEYS: Final = (
    "SELECT index_name, column_name, sub_part FROM information_schema.statistics"
    " WHERE table_schema = DATABASE() AND table_name = %s AND non_unique = 0 ORDER BY index_name, seq_in_index"
)


def table_differences(cursor: Any, tables: Sequence[OwnTable]) -> list[str]:
    """Sentences: why rows cannot go into these tables, each with the statement that mends it, where there is one."""
    dialect = MySqlDialect()
    return [line for table in tables for line in differences(table, found_table(cursor, table.name), dialect)]


def table_warnings(cursor: Any, tables: Sequence[OwnTable]) -> list[str]:
    """Sentences: see `own_tables.warnings`."""
    dialect = MySqlDialect()
    return [line for table in tables for line in warnings(table, found_table(cursor, table.name), dialect)]


def found_table(cursor: Any, name: str) -> FoundTable | None:
    """What the server says of a table in the connection's database; None where it has none that this account may see."""
    cursor.execute(_TABLE, (name,))
    row = cursor.fetchone()
    if row is None:
        return None
    kind, engine, transactions = (_text(value) for value in row)
    if kind == "VIEW":
        return FoundTable((), (), (f"{name} is a view: rows need a table",))
    faults = []
    if transactions != "YES":
        sentence = f"the engine of {name} is {engine}, which has no transactions"
        faults.append(said(sentence, f"ALTER TABLE {quoted_name(name)} ENGINE = InnoDB"))
    cursor.execute(_COLUMNS, (name,))
    columns = tuple(_column(row) for row in cursor.fetchall())
    cursor.execute(_KEYS, (name,))
    return FoundTable(columns, _keys(name, cursor.fetchall()), tuple(faults))


def range_columns(cursor: Any, name: str) -> set[str]:
    """The columns, in small letters, by whose ranges a table is partitioned; none where it is partitioned in another way."""
    cursor.execute(_PARTITIONS, (name,))
    return {
        word
        for method, expression in cursor.fetchall()
        if _text(method).startswith("RANGE")
        for word in re.split(r"[`(), ]+", _text(expression).lower())
    }


def _column(row: Sequence[Any]) -> FoundColumn:
    """From a row of information_schema.columns. MariaDB says `NULL` where the default is NULL, MySQL says nothing."""
    name, type_, nullable, default, extra, collation = (None if value is None else _text(value) for value in row)
    null, counted = nullable == "YES", "auto_increment" in (extra or "").lower()
    generated = bool(re.search(r"\b(?:virtual|stored|persistent)\b", extra or "", re.IGNORECASE))
    fresh = counted or (null and default in {None, "NULL"}) or bool(_NEVER_TWICE.search(default or ""))
    return FoundColumn(
        name or "",
        (type_ or "").lower(),
        nullable=null,
        filled=null or counted or default is not None,
        always_new=fresh and not generated,  # what is computed of columns that are written can meet another row
        generated=generated,
        collation=collation,
    )


def _keys(table: str, rows: Sequence[Sequence[Any]]) -> tuple[FoundKey, ...]:
    parts: dict[str, list[tuple[str, bool]]] = {}
    for index, column, prefix in rows:
        # The part of a key that is an expression has no column.
        parts.setdefault(_text(index), []).append((_text(column).lower(), column is not None and prefix is None))
    return tuple(
        FoundKey(
            name,
            tuple(column for column, _ in columns if column),
            whole=all(whole for _, whole in columns),
            removal=f"ALTER TABLE {quoted_name(table)} DROP {'PRIMARY KEY' if name == 'PRIMARY' else f'KEY {quoted_name(name)}'}",
        )
        for name, columns in parts.items()
    )


def _text(value: Any) -> str:
    return "" if value is None else as_text(value)


class MySqlDialect:
    """See `own_tables.Dialect`."""

    null_in_keys = False

    def fits(self, kind: Kind | None, found: FoundColumn) -> bool:
        name, length = _type(found)
        if name not in _TYPES_OF[kind]:
            return False
        if kind == "time" and name in {"char", "varchar"}:
            return length >= _TIME_LENGTH
        if kind == "id" and name in {"binary", "varbinary"}:
            return length == _ID_LENGTH or (name == "varbinary" and length > _ID_LENGTH)  # BINARY pads with zeros
        return True

    def indexable(self, found: FoundColumn) -> bool:
        return _type(found)[0] not in _LONG

    def blurs(self, found: FoundColumn) -> str | None:
        name, digits = _type(found)
        if found.collation and not re.search(r"_(?:bin|cs)(?:_|$)|^binary$", found.collation):
            return f"has the collation {found.collation}: texts that differ only in case or accents count as the same"
        if name in _TIMES and digits < 6:
            return f"is {found.type}: it keeps {digits} of 6 digits of a second, and times that differ by less count as the same"
        if name in _FRACTIONS and found.type != "double":
            return f"is {found.type}: it rounds, and numbers that differ by less than it keeps count as the same"
        return None

    def misreads(self, found: FoundColumn) -> str | None:
        if _type(found)[0] in {"enum", "set"}:
            return f"is {found.type}: a text of digits that is none of these is stored as the one in that place"
        return None

    def create(self, table: OwnTable) -> str:
        columns = [
            f"{quoted_name(column.name)} {_wanted(table, column)}{' NOT NULL' if _in_key(table, column.name) else ''}"
            for column in table.columns
        ]
        options = "ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin"
        return f"CREATE TABLE {quoted_name(table.name)} ({', '.join(columns)}, PRIMARY KEY ({_listed(table.key)})) {options}"

    def add(self, table: OwnTable, column: Column) -> str:
        return f"{_alter(table)} ADD COLUMN {quoted_name(column.name)} {_definition(table, column)}"

    def retype(self, table: OwnTable, column: Column, found: FoundColumn) -> str:
        null = found.nullable and not _in_key(table, column.name)
        return f"{_alter(table)} MODIFY {quoted_name(found.name)} {_definition(table, column, null=null)}"

    def require(self, table: OwnTable, found: FoundColumn, *, value: bool) -> str:
        collated = f" COLLATE {found.collation}" if found.collation else ""
        return (
            f"{_alter(table)} MODIFY {quoted_name(found.name)} {found.type}{collated} {'NOT NULL' if value else 'NULL'}"
        )

    def add_key(self, table: OwnTable, name: str) -> str:
        return f"{_alter(table)} ADD UNIQUE KEY {quoted_name(name)} ({_listed(table.key)})"


def _type(found: FoundColumn) -> tuple[str, int]:
    """`varchar(64)` -> (`varchar`, 64); 0 without a number."""
    match = _TYPE.match(found.type)
    return (match[1], int(match[2] or 0)) if match else ("", 0)


def _wanted(table: OwnTable, column: Column) -> str:
    name = _TYPE_FOR[column.kind]
    return _KEY_TEXT if name in {"TEXT", "JSON"} and _in_key(table, column.name) else name


def _definition(table: OwnTable, column: Column, *, null: bool = True) -> str:
    name = _wanted(table, column)
    collated = _COLLATED if name in {"TEXT", _KEY_TEXT} else ""
    return f"{name}{collated} {'NULL' if null and not _in_key(table, column.name) else 'NOT NULL'}"


def _in_key(table: OwnTable, name: str) -> bool:
    return name.lower() in {one.lower() for one in table.key}


def _alter(table: OwnTable) -> str:
    return f"ALTER TABLE {quoted_name(table.name)}"


def _listed(names: Sequence[str]) -> str:
    return ",".join(map(quoted_name, names))
