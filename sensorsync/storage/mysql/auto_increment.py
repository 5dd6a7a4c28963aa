"""AUTO_INCREMENT columns of target tables: each upsert takes a number, also one that changes nothing, and the numbers can run out."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from sensorsync.storage.mysql.faults import OUT_OF_RANGE
from sensorsync.storage.mysql.migrations import quote_identifier
from sensorsync.storage.mysql.server import decode_text, read_definition

_BITS: Final = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_NEXT = re.compile(r" AUTO_INCREMENT=(\d+)")
_LARGEST_INCREMENT: Final = 65_535
_NEARLY_FULL: Final = 0.8
_COLUMN: Final = (
    "SELECT column_name, column_type FROM information_schema.columns"
    " WHERE table_schema = DATABASE() AND table_name = %s AND extra LIKE '%%auto_increment%%'"
)


class AutoIncrement(NamedTuple):
    """The AUTO_INCREMENT column of a table."""

    table: str
    column: str
    type: str
    largest: int
    """The largest number that was used: upserts that change a row use one, too, so that it may be in no row."""

    @property
    def limit(self) -> int:
        """The largest number that its type holds."""
        bits = _BITS.get(re.split(r"\W", self.type, maxsplit=1)[0], 64)
        return (1 << bits) - 1 if "unsigned" in self.type else (1 << (bits - 1)) - 1

    @property
    def is_used_up(self) -> bool:
        """True when the server has no further number for a new row."""
        return self.largest >= self.limit

    def is_blamed_by(self, error: Exception) -> bool:
        """Return True where the server reports with 1264 that the next number is too large.

        MySQL does so where `auto_increment_increment` is not 1, as group replication sets it: the last numbers are then skipped.
        """
        number, text = (*error.args, None, None)[:2]
        is_near_end = self.limit - self.largest <= _LARGEST_INCREMENT
        return number == OUT_OF_RANGE and is_near_end and f"'{self.column}'".lower() in str(text).lower()

    @property
    def fix(self) -> str:
        """The statement that gives it more numbers than can be used."""
        column = quote_identifier(self.column)
        return f"ALTER TABLE {quote_identifier(self.table)} MODIFY {column} BIGINT UNSIGNED NOT NULL AUTO_INCREMENT"

    def warning(self) -> str | None:
        """Return a sentence where the numbers can run out, None where they cannot."""
        used = self.largest / self.limit
        name = f"{self.table}.{self.column}"
        end = f"no new row can be stored: run {self.fix}"
        if used > _NEARLY_FULL:
            return f"{name} ({self.type}, AUTO_INCREMENT) is at {self.largest:,} of {self.limit:,}; when these are used up, {end}"
        if not self.type.startswith("bigint"):
            return f"{name} is {self.type} with AUTO_INCREMENT; after {self.limit:,} messages, redeliveries included, {end}"
        return None


def read_auto_increment(cursor: Any, table: str) -> AutoIncrement | None:
    """Return the AUTO_INCREMENT column of a table, None where it has none. Raises what the driver raises."""
    cursor.execute(_COLUMN, (table,))
    found = cursor.fetchone()
    if found is None:
        return None
    column, type_ = (decode_text(value) for value in found)
    cursor.execute(f"SELECT MAX({quote_identifier(column)}) FROM {quote_identifier(table)}")  # noqa: S608 - quoted
    (stored,) = cursor.fetchone()
    # Not from information_schema.tables: MySQL 8 answers from statistics that are up to a day old.
    options = (read_definition(cursor, table) or "").rpartition("\n)")[2]
    following = _NEXT.search(options)
    return AutoIncrement(table, column, type_.lower(), max(int(stored or 0), int(following[1]) - 1 if following else 0))
