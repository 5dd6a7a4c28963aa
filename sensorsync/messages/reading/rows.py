"""Results of a message besides one reading: rows of a target table, and several rows at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from sensorsync.messages.reading.model import Reading, Rejected

ColumnKind = Literal["number", "integer", "boolean", "text", "time", "json", "id"]
"""Kind of a column's values. `time` is UTC text of 26 characters, `json` is JSON text, `id` is 16 bytes. Others are Python's own."""

ColumnValue = float | int | bool | str | bytes | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column that a mapping writes."""

    name: str
    kind: ColumnKind | None
    """None when the value is stored as it arrives: a number, a boolean or a text."""


@dataclass(frozen=True, slots=True)
class TargetTable:
    """A table that a mapping writes to, instead of `sensor_readings`."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    """Names of the columns that identify a row. A unique key of the table has exactly these."""
    conflict: Literal["first", "last"] = "first"
    """The row that stays when two rows have the same key."""

    @property
    def key_places(self) -> tuple[int, ...]:
        """Positions of the key in `TableRow.values`."""
        names = [column.name for column in self.columns]
        return tuple(names.index(name) for name in self.key)


class TableRow(NamedTuple):
    """One row of a target table, ready to be stored."""

    table: TargetTable
    values: tuple[ColumnValue, ...]
    """One value for each of `table.columns`. Those of the key are not None.

    They depend on the time of arrival only when the mapping has `missing_ts: arrival`.
    """
    ts: str | None
    """Time of the measurement, as `Reading.ts`. None when the mapping has no time."""


Row = Reading | TableRow


class FanOut(NamedTuple):
    """The results of a message that may give several rows, in its order. Each is a row, or the reason of its rejection."""

    parts: tuple[Reading | TableRow | Rejected, ...]
    """At least one result."""
