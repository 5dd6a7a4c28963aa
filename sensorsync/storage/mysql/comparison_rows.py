"""Rows to compare a refused one with: if the same table accepts another row at the same moment, there is not an outage."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from sensorsync.messages.reading import Reading, TableRow
from sensorsync.messages.reading.rows import ColumnValue
from sensorsync.pipeline.contract import Row
from sensorsync.storage.target_table import READINGS_TABLE

_TIME_LENGTH: Final = 26
_CHANGED_LENGTH: Final = 8
"""Characters at the end of a key."""


class AcceptedRows:
    """The row of each table that was committed last, by any writer of the process: one row a table, whatever the batches hold.

    Assigning to a dict is atomic, so that the writers need no lock.
    """

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def remember(self, batch: Iterable[Sequence[Row]]) -> None:
        """Note that these rows are committed, table by table."""
        for rows in batch:
            self._rows[table_of(rows[-1])] = rows[-1]

    def last(self, row: Row) -> Row | None:
        """Return the row that was last committed into the table of `row`."""
        return self._rows.get(table_of(row))


def table_of(row: Row) -> str:
    """Return the name of the table that the row goes into."""
    return READINGS_TABLE if isinstance(row, Reading) else row.table.name


def rows_like(row: Row, accepted: Row | None) -> Iterator[Row]:
    """Yield other rows with the device id of `row` (for a target table: with its key): if one is accepted, its shard works.

    The likeliest to be accepted comes first: the contents of a row that was accepted lately. Triggers and CHECKs may refuse made-up
    contents, and what is wrong with `row` may be in its key.
    """
    if isinstance(row, Reading):
        if isinstance(accepted, Reading):
            yield _new_reading(accepted, device_id=row.device_id, metric=row.metric, ts=row.ts)
            yield _new_reading(accepted, device_id=row.device_id)
        yield from _made_up_readings(row)
    elif isinstance(accepted, TableRow):
        yield _with_key_of(accepted, row)
        yield _with_key_of(accepted, _with_new_key(row))


def accepted_again(row: Row, accepted: Row | None) -> Iterator[Row]:
    """Yield rows that the table accepts unless it refuses all: the contents that were accepted last, with a new key.

    Or with the key of `row`: the table then does with them what it did with `row`, whether the key is there already or not.
    """
    if isinstance(row, Reading):
        if isinstance(accepted, Reading):
            yield _new_reading(accepted)
        else:
            arrival = datetime.fromtimestamp(row.received_at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
            like = row._replace(device_id="sensorsync", metric="comparison", topic="sensorsync", ts=arrival)
            yield from _made_up_readings(like)
    elif isinstance(row, TableRow) and isinstance(accepted, TableRow):
        other = _with_new_key(accepted)
        yield _with_changed_key(accepted) if other == accepted else other
        yield _with_key_of(accepted, row)
        # Without contents nothing meets another unique key.
        keys = row.table.key_places
        yield row._replace(values=tuple(value if place in keys else None for place, value in enumerate(row.values)))


def has_key_of(other: Row, row: Row) -> bool:
    """Return True for two rows of a target table that have the same key."""
    if isinstance(other, Reading) or isinstance(row, Reading):
        return False
    return all(other.values[place] == row.values[place] for place in row.table.key_places)


def _made_up_readings(row: Reading) -> Iterator[Row]:
    """Yield readings without contents: NULL passes every CHECK (SQL-92, 4.10), and a number most triggers that demand one."""
    for value in (0.0, None, 1.0):
        yield _new_reading(row, value=value, value_text=None, unit=None, payload="{}")


def _new_reading(row: Reading, **changes: object) -> Reading:
    """Return a copy with an id that no reading has: it is inserted, not compared with one that is there."""
    return row._replace(event_id=uuid.uuid4().bytes, **changes)  # type: ignore[arg-type]


def _with_key_of(accepted: TableRow, row: TableRow) -> TableRow:
    values = list(accepted.values)
    for place in row.table.key_places:
        values[place] = row.values[place]
    return accepted._replace(values=tuple(values))


def _with_changed_key(row: TableRow) -> TableRow:
    """Return a copy with another text or number of the same length in its key, which is probably new."""
    values: list[ColumnValue] = list(row.values)
    for place in row.table.key_places:
        value = values[place]
        if isinstance(value, str):
            kept = value[:-_CHANGED_LENGTH]
            values[place] = kept + uuid.uuid4().hex[: len(value) - len(kept)]
            break
        if isinstance(value, int) and not isinstance(value, bool):
            largest = max(100, abs(value))
            values[place] = 1 + uuid.uuid4().int % largest
            break
    return row._replace(values=tuple(values))


def _with_new_key(row: TableRow) -> TableRow:
    """Return a copy whose key is new where that is easy: another id, or another fraction of the second."""
    values: list[ColumnValue] = list(row.values)
    for place in row.table.key_places:
        kind, value = row.table.columns[place].kind, values[place]
        if kind == "id" and isinstance(value, bytes):
            values[place] = uuid.uuid4().bytes
            break
        if kind == "time" and isinstance(value, str) and len(value) == _TIME_LENGTH:
            values[place] = f"{value[:20]}{uuid.uuid4().int % 1_000_000:06d}"
            break
    return row._replace(values=tuple(values))
