"""The upsert of a table of the user's own: columns, key and policy as its mapping says."""

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
"""Both servers cut a number of more than 65 digits (DECIMAL), with nothing but a warning."""


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
    """See `statement.Upsert`. Made once for a table and a writer; the table's hash would go through all of its columns."""

    def __init__(self, table: TargetTable) -> None:
        self.table = table
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
        """One row per key, in the order of the keys: the first in the batch, or the last."""
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
    """What follows the rows, as `statement.upsert_suffix`.

    ON DUPLICATE KEY UPDATE asks no question: it changes the row that is there under *any* unique key, and that need not be ours, be it
    that somebody added a key, or that the AUTO_INCREMENT column of the table is used up (MySQL then meets the last row for ever, and a
    plain no-op would swallow every reading). So the first assignment keeps the key where all of it is the same, and else writes NULL
    into a NOT NULL column, which is an error (1048). Not into a time, if there is another column: MariaDB writes the present time into
    a TIMESTAMP that is given NULL. Where there is none, a division by zero is the error (1365), by the session's sql_mode.
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
    """An order of keys in which numbers and texts come together."""
    parts = key if isinstance(key, tuple) else (key,)
    return tuple((isinstance(part, str), part) for part in parts)
