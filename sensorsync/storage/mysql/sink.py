"""MySqlSink: writes the batches of one writer into `sensor_readings` and target tables, each batch in one transaction."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

import pymysql

from sensorsync.messages.reading import Reading, TableRow, TargetTable
from sensorsync.pipeline.contract import (
    BatchRejected,
    Row,
    RowSuspected,
    SinkMisconfigured,
    SinkUnavailable,
    SinkVerificationFailed,
    TransactionTooLarge,
)
from sensorsync.storage.mysql.auto_increment import read_auto_increment
from sensorsync.storage.mysql.batch_verifier import BatchVerifier
from sensorsync.storage.mysql.comparison_rows import AcceptedRows, accepted_again, has_key_of, rows_like, table_of
from sensorsync.storage.mysql.connect import ConnectionPool, Lease, sink_error
from sensorsync.storage.mysql.diagnosis import (
    ErrorDiagnosis,
    Phase,
    blames_other_table,
    diagnose_error,
    is_nameless_foreign_key,
    is_row_too_large,
    names_key,
)
from sensorsync.storage.mysql.faults import (
    AUTO_INCREMENT_ERRNOS,
    DUPLICATE_KEY,
    NO_PARTITION,
    OUT_OF_RANGE,
    PACKET_TOO_LARGE,
    STATEMENT_TIMEOUTS,
    ErrorAction,
)
from sensorsync.storage.mysql.missing_partition import is_partitioned, may_get_partition
from sensorsync.storage.mysql.server import foreign_key_columns, read_definition
from sensorsync.storage.mysql.statement import ConflictPolicy, ReadingUpsert, Upsert, build_statements
from sensorsync.storage.mysql.table_verifier import TableVerifier
from sensorsync.storage.mysql.target_upsert import TargetUpsert
from sensorsync.storage.target_table import TableUpserts

logger = logging.getLogger(__name__)

_PACKET_MARGIN: Final = 1024
_LEAST_PACKET: Final = 64 * 1024
"""Bytes: where max_allowed_packet is smaller, ordinary rows do not fit, and none is to blame for its length."""
_MAX_STATEMENT_ROWS: Final = 1_000_000
_COUNTS = re.compile(rb"\D*(\d+)\D+(\d+)")
_KEY_CONFLICT_ERRNOS: Final = frozenset({1048, 1365, 1690})
"""The errors that the upsert of a target table provokes for a conflict with another unique key (see `target_upsert`)."""
_OVERFLOW: Final = 1690
"""The error of `statement.upsert_suffix` where a reading met another one."""
_KEY_CONFLICT_NOTE: Final = (
    "; if that column is in the key of its mapping, the row met another one under another unique key of the table"
)

_NO_LITERAL: Final = (ValueError, TypeError, OverflowError, pymysql.ProgrammingError)
"""Errors of making a statement. The driver raises them, too, for an answer that it cannot read: no row is at fault for that."""

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
        verifier: TableVerifier | None = None,
        accepted_rows: AcceptedRows | None = None,
    ) -> None:
        self._pool = pool
        self._verification = BatchVerifier(pool.connector, verifier or TableVerifier())
        self._accepted_rows = accepted_rows or AcceptedRows()
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
        except _NO_LITERAL as error:
            raise _no_literal(error) from error
        lease = self._acquire_lease()
        self._verify_before_writing(lease, batch)
        try:
            parts = self._build_statements(lease, texts, rows)
        except _NO_LITERAL as error:
            raise _no_literal(error) from error
        new = self._run_transaction(lease, parts, batch)
        self._accepted_rows.remember(chosen for _, chosen in batch)
        self._max_rows = min(self._max_rows * 2, _MAX_STATEMENT_ROWS)
        return new

    def _build_statements(
        self, lease: Lease, texts: Sequence[tuple[Upsert, Sequence[str]]], rows: Sequence[Row]
    ) -> list[tuple[bytes, bool]]:
        """Return the statements, each with its `Upsert.no_op`.

        Raises BatchRejected when a single row is too long for a statement.
        """
        server = lease.server
        parts: list[tuple[bytes, bool]] = []
        for upsert, formatted in texts:
            made = build_statements(
                formatted,
                upsert.suffix(row_alias=server.supports_row_alias),
                prefix=upsert.prefix,
                max_bytes=server.max_allowed_packet - _PACKET_MARGIN,
                max_rows=self._max_rows,
            )
            if made is None:
                self._raise_packet_error(lease, rows)
            parts += [(statement, upsert.no_op) for statement in made]
        return parts

    def _raise_packet_error(self, lease: Lease, rows: Sequence[Row]) -> NoReturn:
        """Raise BatchRejected, or SinkUnavailable where rows that were accepted before are too long by now, too."""
        limit = lease.server.max_allowed_packet
        accepted = [self._accepted_rows.last(row) for row in rows[:1]]
        text = "".join(part for row in accepted if row is not None for part in self._upsert_for(row).format_rows([row]))
        if limit < _LEAST_PACKET or len(text.encode()) > limit - 2 * _PACKET_MARGIN:
            self._discard_lease(lease)  # a session keeps the value that it began with
            raise SinkUnavailable(
                f"{self._pool.connector.address}: max_allowed_packet is {limit} bytes, too small for ordinary rows; set it to 16 MiB"
                " or more on the server (SET GLOBAL max_allowed_packet = 16777216)",
                errno=PACKET_TOO_LARGE,
            )
        raise BatchRejected(f"a row is longer than max_allowed_packet allows ({limit} bytes)", errno=PACKET_TOO_LARGE)

    def _upsert_for(self, row: Row) -> Upsert:
        return self._upserts.split_by_table([row])[0][0]

    def _acquire_lease(self) -> Lease:
        now = time.monotonic()
        idle = now - self._last_used
        if self._lease is not None and idle > self._pool.connector.idle_limit and not self._lease.is_alive():
            self._discard_lease(self._lease)
        self._last_used = now
        if self._lease is None:
            self._lease = self._pool.checkout(self._worker)
        return self._lease

    def _verify_before_writing(self, lease: Lease, batch: UpsertRows) -> None:
        try:
            self._verification.before_writing(lease, _tables(batch))
        except (SinkUnavailable, SinkMisconfigured):
            self._discard_lease(lease)
            raise

    def _verify_after_rejection(
        self, lease: Lease, batch: UpsertRows, error: Exception, diagnosis: ErrorDiagnosis
    ) -> None:
        """Raise SinkVerificationFailed when the table has changed: then no row is at fault."""
        is_key_conflict = diagnosis.errno in _KEY_CONFLICT_ERRNOS or diagnosis.errno == DUPLICATE_KEY
        try:
            self._verification.after_rejection(lease, _tables(batch), is_key_conflict=is_key_conflict)
        except (SinkUnavailable, SinkMisconfigured) as failure:
            self._discard_lease(lease)
            raise failure from error

    def _run_transaction(self, lease: Lease, parts: Sequence[tuple[bytes, bool]], batch: UpsertRows) -> int:
        phase = Phase.BEGIN
        try:
            lease.begin()
            phase = Phase.STATEMENT
            with lease.connection.cursor() as cursor:
                new = sum(self._execute(cursor, statement, no_op=no_op) for statement, no_op in parts)
            # From here on no row is at fault.
            phase = Phase.COMMIT
            self._verification.before_commit(lease, _tables(batch))
            lease.commit()
        except SinkVerificationFailed:
            lease.rollback()
            self._discard_lease(lease)
            raise
        except Exception as error:  # noqa: BLE001 - _raise_error always raises one of the outcomes
            self._raise_error(lease, error, batch, phase)
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

    def _raise_error(self, lease: Lease, error: Exception, batch: UpsertRows, phase: Phase) -> NoReturn:
        """Roll back, then raise the outcome. Always in this order: a lock wait undoes only its own statement (1205)."""
        rows: list[Row] = [row for _, chosen in batch for row in chosen]
        diagnosis = diagnose_error(error, phase, lease.server.version_text)
        action = diagnosis.rule.action
        usable = lease.rollback() and not diagnosis.connection_lost
        if action in {ErrorAction.REJECT, ErrorAction.UNKNOWN} and usable:
            self._verify_after_rejection(lease, batch, error, diagnosis)
        if not usable or action in {ErrorAction.OUTAGE, ErrorAction.CONFIG} or diagnosis.errno == PACKET_TOO_LARGE:
            self._discard_lease(lease)  # the primary may have moved, privileges may have changed: reconnect
        if diagnosis.errno in STATEMENT_TIMEOUTS:
            # The time counts per statement, not per transaction.
            self._max_rows = max(1, min(self._max_rows, len(rows)) // 2)
        if action is ErrorAction.TOO_LARGE:
            if len(rows) > 1:
                raise TransactionTooLarge(diagnosis.message, errno=diagnosis.errno) from error
            action = ErrorAction.REJECT if is_row_too_large(diagnosis) else ErrorAction.OUTAGE
        if action in {ErrorAction.REJECT, ErrorAction.UNKNOWN}:
            if len(rows) > 1:
                raise BatchRejected(diagnosis.message, errno=diagnosis.errno) from error  # halved down to the row
            self._raise_row_error(rows[0], diagnosis._replace(rule=diagnosis.rule._replace(action=action)), error)
        if diagnosis.errno in AUTO_INCREMENT_ERRNOS:
            self._raise_if_used_up(rows, error)
        decided = diagnosis._replace(rule=diagnosis.rule._replace(action=action))
        raise sink_error(
            decided,
            self._pool.connector.address,
            ambiguous=phase in {Phase.COMMIT, Phase.STATEMENT_OR_COMMIT} and diagnosis.connection_lost,
        ) from error

    def _raise_row_error(self, row: Row, diagnosis: ErrorDiagnosis, error: Exception) -> NoReturn:
        """Raise the outcome for one row that was refused: it is at fault only if the table accepts others."""
        errno, message = diagnosis.errno, diagnosis.message
        if errno == NO_PARTITION and may_get_partition(self._acquire_lease(), row):
            # The time is a likely one: somebody has to add its partition.
            outage = diagnosis._replace(rule=diagnosis.rule._replace(action=ErrorAction.OUTAGE))
            raise sink_error(outage, self._pool.connector.address) from error
        if errno == NO_PARTITION and is_partitioned(self._acquire_lease(), table_of(row)):
            raise BatchRejected(message, errno=errno) from error
        if errno in _KEY_CONFLICT_ERRNOS or errno in {DUPLICATE_KEY, OUT_OF_RANGE}:
            self._raise_if_used_up([row], error)
        if errno in _KEY_CONFLICT_ERRNOS or errno == DUPLICATE_KEY:
            message += _KEY_CONFLICT_NOTE if not self._upserts.only_readings or errno == _OVERFLOW else ""
        accepted = self._accepted_rows.last(row)
        if diagnosis.rule.action is ErrorAction.REJECT and not blames_other_table(diagnosis, row):
            others = list(accepted_again(row, accepted))
            if not others or self._accepts_like(row, others):
                raise BatchRejected(message, errno=errno) from error
            # The key itself can be at fault. A row that is there already proves less: an AFTER INSERT trigger does not run for it.
            accepts = (
                isinstance(accepted, TableRow) and names_key(diagnosis, accepted.table) and self._accepts(accepted)
            )
        elif is_nameless_foreign_key(diagnosis) and (columns := self._foreign_key_columns(row)):
            accepts = self._accepts_like(row, accepted_again(row, accepted))
            if not accepts and isinstance(accepted, TableRow):
                accepts = bool(columns & {name.lower() for name in accepted.table.key}) and self._accepts(accepted)
        else:
            accepts = any(self._accepts(other) for other in rows_like(row, accepted))
        raise RowSuspected(message, errno=errno, other_row_accepted=accepts) from error

    def _foreign_key_columns(self, row: Row) -> frozenset[str]:
        """Return the columns of the foreign keys of the row's own table, in lower case."""
        try:
            with self._acquire_lease().connection.cursor() as cursor:
                return foreign_key_columns(read_definition(cursor, table_of(row)) or "")
        except pymysql.MySQLError:
            return frozenset()

    def _accepts_like(self, row: Row, others: Iterable[Row]) -> bool:
        """Return True if the server accepts one of `others` as it would a new row, or under the key of `row`."""
        return any(self._accepts(other, new=not has_key_of(other, row)) for other in others)

    def _accepts(self, row: Row, *, new: bool = False) -> bool:
        """Try to write a row and roll it back; return True if the server accepts it. `new`: only if it was not there already."""
        upsert = self._upsert_for(row)
        lease = self._acquire_lease()
        cursor: Any
        suffix = upsert.suffix(row_alias=lease.server.supports_row_alias)
        try:
            statement = upsert.prefix + upsert.format_rows([row])[0].encode() + suffix
            lease.begin()
            with lease.connection.cursor() as cursor:
                affected = cursor.execute(statement)
        except Exception:  # noqa: BLE001 - any failure means that the row was not accepted
            if not lease.rollback():
                self._discard_lease(lease)
            return False
        if not lease.rollback():
            self._discard_lease(lease)
        return affected == 1 or not new

    def _raise_if_used_up(self, rows: Sequence[Row], error: Exception) -> None:
        """Raise SinkUnavailable where a target table has no AUTO_INCREMENT number left: no new row is at fault for that."""
        for name in {table_of(row) for row in rows if not isinstance(row, Reading)}:
            lease = self._acquire_lease()
            try:
                with lease.connection.cursor() as cursor:
                    counter = read_auto_increment(cursor, name)
            except pymysql.MySQLError:
                self._discard_lease(lease)
                continue
            if counter is not None and (counter.is_used_up or counter.is_blamed_by(error)):
                raise SinkUnavailable(
                    f"{self._pool.connector.address}: the AUTO_INCREMENT of {name} is used up ({counter.column} is {counter.type}):"
                    f" {error}; run {counter.fix}",
                    errno=getattr(error, "args", (None,))[0],
                ) from error

    def _discard_lease(self, lease: Lease) -> None:
        lease.release(broken=True)
        self._lease = None


def _no_literal(error: Exception) -> BatchRejected:
    return BatchRejected(f"a value that no SQL can say: {error}")


def _tables(batch: UpsertRows) -> list[TargetTable | None]:
    return [upsert.table for upsert, _ in batch]


def _count_updated_rows(cursor: Any, affected: int) -> int:
    """Return the number of rows that a statement changed.

    An inserted row counts 1 in `affected`, a changed one 2, an unchanged one 0. For several rows the server sends the
    number in its message, "Records: 3  Duplicates: 1  Warnings: 0" (mysql_info() of the C API). The words of that
    message are translated, but the numbers keep their order.
    """
    found = _COUNTS.match(cursor.connection._result.message or b"")
    return int(found[2]) if found else affected // 2
