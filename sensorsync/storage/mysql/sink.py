"""MySqlSink: writes the batches of one writer into `sensor_readings` and target tables, each batch in one transaction."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

import pymysql

from sensorsync.messages.reading import Reading, TargetTable
from sensorsync.pipeline.contract import BatchRejected, Row
from sensorsync.storage.mysql.connect import ConnectionPool, Lease, sink_error
from sensorsync.storage.mysql.diagnosis import ErrorDiagnosis, diagnose_error
from sensorsync.storage.mysql.faults import NO_PARTITION, PACKET_TOO_LARGE, STATEMENT_TIMEOUTS, ErrorAction
from sensorsync.storage.mysql.statement import ConflictPolicy, ReadingUpsert, Upsert, build_statements
from sensorsync.storage.mysql.target_tables import range_partition_columns
from sensorsync.storage.mysql.target_upsert import TargetUpsert
from sensorsync.storage.target_table import TableUpserts

logger = logging.getLogger(__name__)

_PACKET_MARGIN: Final = 1024
_MAX_STATEMENT_ROWS: Final = 1_000_000
_PLAUSIBLE_AGE: Final = timedelta(days=366)
_COUNTS = re.compile(rb"\D*(\d+)\D+(\d+)")
_KEY_CONFLICT_ERRNOS: Final = frozenset({1048, 1365})
"""The errors that the upsert of a target table provokes for a conflict with another unique key (see `target_upsert`)."""
_KEY_CONFLICT_NOTE: Final = (
    "; if that column is in the key of its mapping, the row met another one under another unique key of the table, or the table's"
    " AUTO_INCREMENT is used up"
)

UpsertRows = Sequence[tuple[Upsert, Sequence[Any]]]
"""The rows of a batch by table, one row per key."""


class MySqlSink:
    """The Sink of one writer thread. It checks out a connection at its first write and holds it until the connection fails.

    It returns its connection after every write only where the pool is smaller than the number of sinks. Without
    `target_tables` all rows are readings.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        conflict: ConflictPolicy = "first",
        *,
        worker: int = 0,
        target_tables: Sequence[TargetTable] = (),
    ) -> None:
        self._pool = pool
        pool.register(self)
        self._worker = worker
        self._upserts: TableUpserts[Upsert] = TableUpserts(ReadingUpsert(conflict), TargetUpsert, target_tables)
        self._lease: Lease | None = None
        self._last_used = 0.0
        self._max_rows = _MAX_STATEMENT_ROWS
        self._warning_logged = False

    def write(self, rows: Sequence[Row]) -> int:
        """Commit all of `rows` or none, and return the number of new rows.

        Raises the exceptions of `contract.Sink.write`.
        """
        try:
            return self._write(rows) if rows else 0
        finally:
            if self._pool.is_oversubscribed:
                self._release_lease()

    def close(self) -> None:
        """Return the connection to the pool."""
        self._release_lease()
        self._pool.unregister(self)

    def _release_lease(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def _write(self, rows: Sequence[Row]) -> int:
        try:
            batch = [(upsert, upsert.distinct(some)) for upsert, some in self._upserts.split_by_table(rows)]
            texts = [(upsert, upsert.format_rows(chosen)) for upsert, chosen in batch]
            lease = self._acquire_lease()
            parts = self._build_statements(lease, texts)
        except (ValueError, TypeError, OverflowError, pymysql.ProgrammingError) as error:
            raise BatchRejected(f"a value that no SQL can say: {error}") from error
        new = self._run_transaction(lease, parts, batch)
        self._max_rows = min(self._max_rows * 2, _MAX_STATEMENT_ROWS)
        return new

    def _build_statements(
        self, lease: Lease, texts: Sequence[tuple[Upsert, Sequence[str]]]
    ) -> list[tuple[bytes, bool]]:
        """Return the statements, each with its `Upsert.no_op`.

        Raises BatchRejected when a single row is too long for a statement.
        """
        server = lease.server
        parts: list[tuple[bytes, bool]] = []
        for upsert, rows in texts:
            made = build_statements(
                rows,
                upsert.suffix(row_alias=server.supports_row_alias),
                prefix=upsert.prefix,
                max_bytes=server.max_allowed_packet - _PACKET_MARGIN,
                max_rows=self._max_rows,
            )
            if made is None:
                raise BatchRejected(
                    f"a row is longer than max_allowed_packet allows ({server.max_allowed_packet} bytes)",
                    errno=PACKET_TOO_LARGE,
                )
            parts += [(statement, upsert.no_op) for statement in made]
        return parts

    def _acquire_lease(self) -> Lease:
        now = time.monotonic()
        idle = now - self._last_used
        if self._lease is not None and idle > self._pool.connector.idle_limit and not self._lease.is_alive():
            self._discard_lease(self._lease)
        self._last_used = now
        if self._lease is None:
            self._lease = self._pool.checkout(self._worker)
        return self._lease

    def _run_transaction(self, lease: Lease, parts: Sequence[tuple[bytes, bool]], batch: UpsertRows) -> int:
        committing = False
        try:
            lease.begin()
            with lease.connection.cursor() as cursor:
                new = sum(self._execute(cursor, statement, no_op=no_op) for statement, no_op in parts)
            committing = True
            lease.commit()
        except Exception as error:  # noqa: BLE001 - _raise_error always raises one of the three outcomes
            self._raise_error(lease, error, batch, committing=committing)
        except BaseException:
            self._discard_lease(
                lease
            )  # interrupted between request and answer, so the next answer would be the wrong one
            raise
        return new

    def _execute(self, cursor: Any, statement: bytes, *, no_op: bool) -> int:
        """Run one upsert and return the number of its rows that were new."""
        affected: int = cursor.execute(statement)
        # A no-op update counts 0 in `affected`.
        new = affected if no_op else affected - 2 * _count_updated_rows(cursor, affected)
        if cursor.warning_count and not self._warning_logged:
            self._warning_logged = True
            some = cursor.connection.show_warnings()[:3]
            extra = {"event": "sql_warning", "worker": self._worker}
            logger.warning(
                "[WORKER-%d] the server returned warnings for the upsert: %s", self._worker, some, extra=extra
            )
        return new

    def _raise_error(self, lease: Lease, error: Exception, batch: UpsertRows, *, committing: bool) -> NoReturn:
        """Roll back, then raise the exception that describes the outcome.

        The rollback always comes first, because a lock wait timeout undoes only its own statement (1205).
        """
        diagnosis = diagnose_error(error)
        chosen: list[Row] = [row for _, rows in batch for row in rows]
        usable = lease.rollback() and not diagnosis.connection_lost
        action = self._decide_action(lease, diagnosis, chosen, usable=usable)
        if not usable or action in {ErrorAction.OUTAGE, ErrorAction.CONFIG} or diagnosis.errno == PACKET_TOO_LARGE:
            self._discard_lease(lease)  # reconnect, as the primary may have moved or privileges may have changed
        if diagnosis.errno in STATEMENT_TIMEOUTS:
            # The server's limit applies to a statement, not to a transaction, so smaller statements can succeed.
            self._max_rows = max(1, min(self._max_rows, len(chosen)) // 2)
        if action is ErrorAction.REJECT:
            note = (
                _KEY_CONFLICT_NOTE
                if not self._upserts.only_readings and diagnosis.errno in _KEY_CONFLICT_ERRNOS
                else ""
            )
            raise BatchRejected(f"{diagnosis.message}{note}", errno=diagnosis.errno) from error
        decided = diagnosis._replace(rule=diagnosis.rule._replace(action=action))
        raise sink_error(
            decided, self._pool.connector.address, ambiguous=committing and diagnosis.connection_lost
        ) from error

    def _decide_action(
        self, lease: Lease, diagnosis: ErrorDiagnosis, chosen: Sequence[Row], *, usable: bool
    ) -> ErrorAction:
        action = diagnosis.rule.action
        if action is ErrorAction.UNKNOWN:
            if len(chosen) > 1:
                return ErrorAction.REJECT  # bisect first
            return ErrorAction.REJECT if usable and lease.is_alive() else ErrorAction.OUTAGE
        if diagnosis.errno == NO_PARTITION and len(chosen) == 1 and _may_get_partition(lease, chosen[0]):
            return ErrorAction.OUTAGE  # the time is plausible, so its partition will be added
        return action

    def _discard_lease(self, lease: Lease) -> None:
        lease.release(broken=True)
        self._lease = None


def _count_updated_rows(cursor: Any, affected: int) -> int:
    """Return the number of rows that a statement changed.

    An inserted row counts 1 in `affected`, a changed one 2, an unchanged one 0. For several rows the server sends the
    number in its message, "Records: 3  Duplicates: 1  Warnings: 0" (mysql_info() of the C API). The words of that
    message are translated, but the numbers keep their order.
    """
    found = _COUNTS.match(cursor.connection._result.message or b"")
    return int(found[2]) if found else affected // 2


def _may_get_partition(lease: Lease, row: Row) -> bool:
    """Return True when the missing partition of a row is one that is added as time goes by.

    In a target table this is so only where the partitions are ranges of times. A partition for any other value does not
    appear by waiting, and one row with a value that has no partition would block all others.
    """
    if isinstance(row, Reading):
        return _is_plausible_time(row.ts, datetime.fromtimestamp(row.received_at, UTC))
    try:
        with lease.connection.cursor() as cursor:
            by = range_partition_columns(cursor, row.table.name)
    except pymysql.MySQLError:
        return True  # the partitions cannot be read, so the row is retried on another connection
    now = datetime.now(UTC)  # the row arrived a moment ago
    times = [
        str(value)
        for column, value in zip(row.table.columns, row.values, strict=True)
        if column.kind == "time" and column.name.lower() in by
    ]
    return bool(times) and all(_is_plausible_time(time, now) for time in times)


def _is_plausible_time(ts: str, arrival: datetime) -> bool:
    """Return True when a time is within a year of its row's arrival."""
    return abs(arrival - datetime.fromisoformat(f"{ts}+00:00")) < _PLAUSIBLE_AGE
