"""SqliteSink: the sink of the demo and of small gateways, with the same contract as MySqlSink."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from math import isfinite, nan
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from sensorsync.messages.reading import TargetTable
from sensorsync.pipeline.contract import BatchRejected, Reading, Row
from sensorsync.storage.sqlite.connect import connect
from sensorsync.storage.sqlite.faults import sink_error
from sensorsync.storage.sqlite.target_upsert import TargetUpsert
from sensorsync.storage.target_table import TableUpserts

ConflictPolicy = Literal["first", "last", "newest"]

_INSERT: Final = (
    "INSERT INTO sensor_readings (event_id, device_id, metric, ts, value, value_text, unit, topic, received_at, payload)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_NEW: Final = f"{_INSERT} ON CONFLICT (device_id, metric, ts, event_id) DO NOTHING"
_UPDATE_EXISTING: Final = (
    f"{_INSERT} ON CONFLICT (device_id, metric, ts, event_id) DO UPDATE SET value = excluded.value,"
    " value_text = excluded.value_text, unit = excluded.unit, topic = excluded.topic, payload = excluded.payload,"
    " revised_at = nullif(excluded.received_at, sensor_readings.received_at)"
)
_UPDATE_BY_POLICY: Final[dict[ConflictPolicy, str]] = {
    "last": _UPDATE_EXISTING,
    "newest": f"{_UPDATE_EXISTING} WHERE excluded.received_at > coalesce(sensor_readings.revised_at, sensor_readings.received_at)",
}

RowParameters = tuple[bytes, str, str, str, float | None, str | None, str | None, str, str, str]


class Upsert(Protocol):
    """The statements that store the rows of one table. Each writer has one per table."""

    def parameters(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Return the bound parameters. Raises BatchRejected for a value that SQLite would silently store as NULL."""
        ...

    def store(self, connection: sqlite3.Connection, values: Sequence[Any]) -> int:
        """Write the rows in the open transaction, and return the number of new ones."""
        ...


class ReadingUpsert:
    """The upsert of `sensor_readings`."""

    def __init__(self, policy: ConflictPolicy) -> None:
        self._policy: ConflictPolicy = policy

    def parameters(self, rows: Sequence[Reading]) -> list[RowParameters]:
        return list(_row_parameters(rows))

    def store(self, connection: sqlite3.Connection, values: Sequence[RowParameters]) -> int:
        before = connection.total_changes
        connection.executemany(_INSERT_NEW, values)
        new = connection.total_changes - before
        if new < len(values) and self._policy != "first":
            # All rows exist by now and are updated in the order of arrival. For the new ones this changes nothing.
            connection.executemany(_UPDATE_BY_POLICY[self._policy], values)
        return new


class SqliteSink:
    """The Sink of one writer thread. Several may write to one file; SQLite runs their transactions one after the other.

    Without `target_tables` all rows are readings.
    """

    def __init__(
        self, path: Path, conflict: ConflictPolicy = "first", target_tables: Sequence[TargetTable] = ()
    ) -> None:
        self._path = path
        self._upserts: TableUpserts[Upsert] = TableUpserts(ReadingUpsert(conflict), TargetUpsert, target_tables)
        self._connection: sqlite3.Connection | None = None

    def write(self, rows: Sequence[Row]) -> int:
        """Commit all of `rows` or none, and return the number of new rows. Raises the exceptions of `contract.Sink.write`."""
        if not rows:
            return 0
        work = [(upsert, upsert.parameters(some)) for upsert, some in self._upserts.split_by_table(rows)]
        try:
            if self._connection is None:
                self._connection = connect(self._path)
            return self._run_transaction(self._connection, work)
        except (sqlite3.Error, UnicodeEncodeError, OverflowError) as error:
            outcome = sink_error(error, str(self._path))
            self._roll_back(keep_connection=isinstance(outcome, BatchRejected))
            raise outcome from error
        except BaseException:
            self._roll_back(keep_connection=False)
            raise

    def _run_transaction(self, connection: sqlite3.Connection, work: Sequence[tuple[Upsert, Sequence[Any]]]) -> int:
        # IMMEDIATE takes the write lock now. Later SQLite could not wait for it.
        connection.execute("BEGIN IMMEDIATE")
        new = sum(upsert.store(connection, values) for upsert, values in work)
        connection.execute("COMMIT")
        return new

    def close(self) -> None:
        """Close the connection."""
        self._roll_back(keep_connection=False)

    def _roll_back(self, *, keep_connection: bool) -> None:
        """Roll back, and close the connection unless it is known to be usable."""
        if self._connection is None:
            return
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        if not keep_connection:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _row_parameters(readings: Sequence[Reading]) -> Iterator[RowParameters]:
    """Yield the parameters of the readings, with the arrival as text.

    Raises BatchRejected for a value that SQLite would silently store as NULL.
    """
    arrival, text = nan, ""  # unequal to every number
    for event_id, device_id, metric, ts, value, value_text, unit, topic, received_at, payload in readings:
        if value is not None and not isfinite(value):
            raise BatchRejected(f"{value} is no number that can be stored")
        if received_at != arrival:
            arrival = received_at
            text = datetime.fromtimestamp(received_at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        yield event_id, device_id, metric, ts, value, value_text, unit, topic, text, payload
