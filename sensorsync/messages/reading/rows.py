"""What one message can become besides one reading: rows of a table of the user's own, and several rows at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from sensorsync.messages.reading.model import Reading, Rejected

ColumnKind = Literal["number", "integer", "boolean", "text", "time", "json", "id"]
"""What a column holds. `time` is UTC text of 26 characters, `json` JSON text, `id` 16 bytes; the others are Python's own."""

ColumnValue = float | int | bool | str | bytes | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column that a mapping writes."""

    name: str
    kind: ColumnKind | None
    """None: as it comes, a number, a boolean or a text."""


@dataclass(frozen=True, slots=True)
class TargetTable:
    """A table that a mapping writes to, instead of `sensor_readings`."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    """Names of the columns that are a row's identity: a unique key of the table has exactly these."""
    conflict: Literal["first", "last"] = "first"
    """Which of two rows with the same key stays."""

    @property
    def key_places(self) -> tuple[int, ...]:
        """Where the key is in `TableRow.values`."""
        names = [column.name for column in self.columns]
        return tuple(names.index(name) for name in self.key)


class TableRow(NamedTuple):
    """One row of a table of the user's own, ready to be stored."""

    table: TargetTable
    values: tuple[ColumnValue, ...]
    """One for each of `table.columns`. Those of the key are not None.

    They depend on the clock of arrival only where the mapping says `missing_ts: arrival`.
    """
    ts: str | None
    """When it was measured, as `Reading.ts`; None where the mapping has no time."""


Row = Reading | TableRow


class FanOut(NamedTuple):
    """What one message gives that may give several rows, in the order of the message: each is a row, or the reason why it is none."""

    parts: tuple[Reading | TableRow | Rejected, ...]
    """At least one."""
