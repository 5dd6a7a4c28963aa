"""SqliteSink: the sink of the demo and of small gateways, under the same contract as MySQL's."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from math import isfinite, nan
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from sensorsync.messages.reading import OwnTable
from sensorsync.pipeline.contract import BatchRefused, Reading, Row
from sensorsync.storage.sqlite.connect import connect
from sensorsync.storage.sqlite.faults import outcome
from sensorsync.storage.sqlite.own_upsert import OwnUpsert
from sensorsync.storage.target_table import Upserts

Policy = Literal["first", "last", "newest"]

_INSERT: Final = (
    "INSERT INTO sensor_readings (event_id, device_id, metric, ts, value, value_text, unit, topic, received_at, payload)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ADD: Final = f"{_INSERT} ON CONFLICT (device_id, metric, ts, event_id) DO NOTHING"
_REPLACE: Final = (
    f"{_INSERT} ON CONFLICT (device_id, metric, ts, event_id) DO UPDATE SET value = excluded.value,"
    " value_text = excluded.value_text, unit = excluded.unit, topic = excluded.topic, payload = excluded.payload,"
    " revised_at = nullif(excluded.received_at, sensor_readings.received_at)"
)
_CONFLICT: Final[dict[Policy, str]] = {
    "last": _REPLACE,
    "newest": f"{_REPLACE} WHERE excluded.received_at > coalesce(sensor_readings.revised_at, sensor_readings.received_at)",
}

type_of_row = tuple[bytes, str, str, str, float | None, str | None, str | None, str, str, str]


class Upsert(Protocol):
    """How the rows of one table are stored. One per table and writer."""

    def values(self, rows: Sequence[Any]) -> Sequence[Any]:
        """What is bound. BatchRefused for a value that SQLite would silently store as NULL."""
        ...

    def store(self, connection: sqlite3.Connection, values: Sequence[Any]) -> int:
        """Write them in the transaction that is open; return how many were new."""
        ...


class ReadingUpsert:
    """`sensor_readings`."""

    def __init__(self, policy: Policy) -> None:
        self._policy: Policy = policy

    def values(self, rows: Sequence[Reading]) -> list[type_of_row]:
        return list(_rows(rows))

    def store(self, connection: sqlite3.Connection, values: Sequence[type_of_row]) -> int:
        before = connection.total_changes
        connection.executemany(_ADD, values)
        new = connection.total_changes - before
        if new < len(values) and self._policy != "first":
            # In the order of arrival, over rows that are there by now: for those just added it changes nothing.
            connection.executemany(_CONFLICT[self._policy], values)
        return new


class SqliteSink:
    """The Sink of one writer thread. Several may write to one file; SQLite lets them in one after the other.

    Without `own_tables` all rows are readings.
    """

    def __init__(self, path: Path, conflict: Policy = "first", own_tables: Sequence[OwnTable] = ()) -> None:
        self._path = path
        self._upserts: Upserts[Upsert] = Upserts(ReadingUpsert(conflict), OwnUpsert, own_tables)
        self._connection: sqlite3.Connection | None = None

    def write(self, rows: Sequence[Row]) -> int:
        """Commit all of `rows`, or none; return how many were new. Raises as `contract.Sink` says."""
        if not rows:
            return 0
        work = [(upsert, upsert.values(some)) for upsert, some in self._upserts.batch(rows)]
        try:
            if self._connection is None:
                self._connection = connect(self._path)
            return self._transact(self._connection, work)
        except (sqlite3.Error, UnicodeEncodeError, OverflowError) as error:
            decided = outcome(error, str(self._path))
            self._recover(keep=isinstance(decided, BatchRefused))
            raise decided from error
        except BaseException:
            self._recover(keep=False)
            raise

    def _transact(self, connection: sqlite3.Connection, work: Sequence[tuple[Upsert, Sequence[Any]]]) -> int:
        # IMMEDIATE: take the write lock now, where waiting for it is still possible.
        connection.execute("BEGIN IMMEDIATE")
        new = sum(upsert.store(connection, values) for upsert, values in work)
        connection.execute("COMMIT")
        return new

    def close(self) -> None:
        """Close the connection."""
        self._recover(keep=False)

    def _recover(self, *, keep: bool) -> None:
        """Roll back; also forget the connection unless it is known to be sound."""
        if self._connection is None:
            return
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        if not keep:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _rows(readings: Sequence[Reading]) -> Iterator[type_of_row]:
    """The readings with their arrival as text. BatchRefused for a value that SQLite would silently store as NULL."""
    arrival, text = nan, ""  # unequal to every number
    for event_id, device_id, metric, ts, value, value_text, unit, topic, received_at, payload in readings:
        if value is not None and not isfinite(value):
            raise BatchRefused(f"{value} is no number that can be stored")
        if received_at != arrival:
            arrival = received_at
            text = datetime.fromtimestamp(received_at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        yield event_id, device_id, metric, ts, value, value_text, unit, topic, text, payload
