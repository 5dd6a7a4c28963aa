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
from sensorsync.pipeline.contract import (
    BatchRejected,
    Reading,
    Row,
    SinkMisconfigured,
    SinkUnavailable,
    SinkVerificationFailed,
)
from sensorsync.storage.sqlite.connect import connect
from sensorsync.storage.sqlite.faults import sink_error
from sensorsync.storage.sqlite.open_files import Identity, OpenFiles, database_identity, has_log, save_log
from sensorsync.storage.sqlite.schema import verify_tables
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
        self._target_tables = target_tables
        self._connection: sqlite3.Connection | None = None
        self._opened: OpenFiles | None = None
        """The files of the connection, once it has begun a transaction: the write-ahead log is made by the first one."""
        self._verified_schema: int | None = None
        self._opened_database: Identity = None
        self._written_file: Identity = None
        self._file_is_changing = False

    def write(self, rows: Sequence[Row]) -> int:
        """Commit all of `rows` or none, and return the number of new rows. Raises the exceptions of `contract.Sink.write`."""
        if not rows:
            return 0
        work = [(upsert, upsert.parameters(some)) for upsert, some in self._upserts.split_by_table(rows)]
        try:
            if self._connection is None:
                self._connection = self._open()
            return self._run_transaction(self._connection, work)
        except (sqlite3.Error, UnicodeEncodeError, OverflowError) as error:
            outcome = sink_error(error, str(self._path))
            if self._opened is not None and OpenFiles.at(self._path) != self._opened:
                self._file_is_changing = True
            self._roll_back(keep_connection=isinstance(outcome, BatchRejected))
            if isinstance(outcome, SinkMisconfigured) and self._is_another_file():
                # Another file or none, where there was a right one: it is being rotated, or somebody has removed it.
                outcome = SinkVerificationFailed(str(outcome), errno=outcome.errno, hint=outcome.hint)
            raise outcome from error
        except BaseException:
            self._roll_back(keep_connection=False)
            raise

    def _is_another_file(self) -> bool:
        # The flag as well: a new file can get the inode of the deleted one.
        return self._file_is_changing or (
            self._written_file is not None and self._written_file != database_identity(self._path)
        )

    def _open(self) -> sqlite3.Connection:
        before = database_identity(self._path)
        connection = connect(self._path)
        if database_identity(self._path) != before:
            connection.close()
            raise self._replaced("while it was opened")
        self._opened = self._verified_schema = None
        self._opened_database = before
        return connection

    def _run_transaction(self, connection: sqlite3.Connection, work: Sequence[tuple[Upsert, Sequence[Any]]]) -> int:
        # IMMEDIATE takes the write lock now. Later SQLite could not wait for it.
        connection.execute("BEGIN IMMEDIATE")
        if self._opened is None:
            opened = OpenFiles.at(self._path)._replace(database=self._opened_database)
            if opened.log is None and has_log(connection):
                raise self._replaced("while it was opened")
            self._opened = opened
        self._verify_tables(connection)
        new = sum(upsert.store(connection, values) for upsert, values in work)
        self._verify_files("", commit_outcome_unknown=False)
        connection.execute("COMMIT")
        # Once more: only what is committed into a file that still has its name is acknowledged.
        self._verify_files(" at the commit", commit_outcome_unknown=True)
        self._written_file, self._file_is_changing = self._opened.database, False
        return new

    def _verify_tables(self, connection: sqlite3.Connection) -> None:
        """Verify the tables once per version of the schema, which SQLite counts in the file. Reading the number takes 2 us."""
        (version,) = connection.execute("PRAGMA schema_version").fetchone()
        if version == self._verified_schema:
            return
        verify_tables(connection, self._path, self._target_tables)
        self._verified_schema = version

    def _verify_files(self, when: str, *, commit_outcome_unknown: bool) -> None:
        if OpenFiles.at(self._path) != self._opened:
            raise self._replaced(f"while it was open{when}", commit_outcome_unknown=commit_outcome_unknown)

    def _replaced(self, when: str, *, commit_outcome_unknown: bool = False) -> SinkUnavailable:
        self._file_is_changing = True
        return SinkUnavailable(
            f"{self._path} or its write-ahead log was removed or replaced {when}; it is opened again",
            commit_outcome_unknown=commit_outcome_unknown,
        )

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
            if self._opened is not None and OpenFiles.at(self._path) != self._opened:
                save_log(self._connection, self._path, self._opened)
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
