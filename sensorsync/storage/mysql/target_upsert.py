"""The upsert of a target table, with the columns, key and conflict policy of its mapping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

from pymysql.converters import escape_float

from sensorsync.messages.reading import TableRow, TargetTable
from sensorsync.storage.mysql.migrations import quote_identifier
from sensorsync.storage.mysql.statement import text_literal

_ROW_ALIAS: Final = "sensorsync_new"
_TOO_MANY_DIGITS: Final = 10**65
"""The first number with more than 65 digits (DECIMAL). Both servers truncate such a number and only return a warning."""


def _integer_literal(value: int) -> str:
    if abs(value) >= _TOO_MANY_DIGITS:
        raise ValueError("an integer of more than 65 digits")
    return str(value)


_LITERALS: Final[dict[type, Callable[[Any], str]]] = {
    type(None): lambda _: "NULL",
    bool: lambda value: "TRUE" if value else "FALSE",
    int: _integer_literal,
    float: escape_float,
    str: text_literal,
    bytes: lambda value: f"X'{value.hex()}'",
}


class TargetUpsert:
    """The `statement.Upsert` of one target table and one writer.

    Callers look it up by the identity of the table, because the hash of a TargetTable covers all of its columns.
    """

    def __init__(self, table: TargetTable) -> None:
        self.table: TargetTable | None = table
        self.no_op = table.conflict == "first"
        names = [quote_identifier(column.name) for column in table.columns]
        self.prefix = f"INSERT INTO {quote_identifier(table.name)}({','.join(names)})VALUES".encode()
        self._key_of: Callable[[tuple[Any, ...]], Any] = itemgetter(*table.key_places)
        kinds = {table.columns[place].kind for place in table.key_places}
        self._sort_key = _sort_key if None in kinds else None
        self._suffixes = {alias: _suffix(table, row_alias=alias) for alias in (False, True)}

    def suffix(self, *, row_alias: bool) -> bytes:
        return self._suffixes[row_alias]

    def distinct(self, rows: Sequence[TableRow]) -> list[TableRow]:
        """Return one row per key, in the order of the keys: the first of the batch or the last, by the table's policy."""
        key_of = self._key_of
        chosen = {key_of(row.values): row for row in (reversed(rows) if self.no_op else rows)}
        return [chosen[key] for key in sorted(chosen, key=self._sort_key)]

    def format_rows(self, rows: Sequence[TableRow]) -> list[str]:
        literals = _LITERALS
        try:
            return [f"({','.join([literals[type(value)](value) for value in row.values])})" for row in rows]
        except KeyError as error:
            raise TypeError(f"{error.args[0].__name__} is no type of a value") from error


def _suffix(table: TargetTable, *, row_alias: bool) -> bytes:
    """Return the part of the statement after the rows, like `statement.upsert_suffix`.

    ON DUPLICATE KEY UPDATE changes the row that conflicts in *any* unique key, and this need not be the mapping's key.
    A key may have been added later. Or the AUTO_INCREMENT column of the table may be used up: MySQL then conflicts with
    the last row every time, and a plain no-op would silently discard every reading. Therefore the first assignment
    keeps the key column where the whole key is the same, and otherwise writes NULL into a NOT NULL column, which is an
    error (1048). If there is another column, the assignment does not use a time, because MariaDB writes the present
    time into a TIMESTAMP that is set to NULL. Where the key has only times, the error is a division by zero (1365), by
    the session's sql_mode.
    """
    name = quote_identifier(table.name)
    new = f"{_ROW_ALIAS}.{{}}".format if row_alias else "VALUES({})".format
    key = [quote_identifier(column) for column in table.key]
    same = " AND ".join(f"{name}.{column}<=>{new(column)}" for column in key)
    kinds = {column.name: column.kind for column in table.columns}
    guard = next((quote_identifier(column) for column in table.key if kinds[column] != "time"), None)
    changes = [
        f"{key[0]}=IF(1 DIV({same}),{name}.{key[0]},NULL)"
        if guard is None
        else f"{guard}=IF({same},{name}.{guard},NULL)"
    ]
    if table.conflict == "last":
        others = (quote_identifier(column.name) for column in table.columns if column.name not in table.key)
        changes += [f"{column}={new(column)}" for column in others]
    return f"{f'AS {_ROW_ALIAS} ' if row_alias else ''}ON DUPLICATE KEY UPDATE {','.join(changes)}".encode()


def _sort_key(key: Any) -> tuple[tuple[bool, Any], ...]:
    """Return a key to sort by, so that numbers and texts can be mixed."""
    parts = key if isinstance(key, tuple) else (key,)
    return tuple((isinstance(part, str), part) for part in parts)
