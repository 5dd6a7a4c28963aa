"""MySqlSink: one writer's batches into `sensor_readings` and tables of the user's own, each one transaction."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

import pymysql

from sensorsync.messages.reading import OwnTable, Reading
from sensorsync.pipeline.contract import BatchRefused, Row
from sensorsync.storage.mysql.connect import Lease, Pool, outcome
from sensorsync.storage.mysql.diagnosis import Diagnosis, diagnose
from sensorsync.storage.mysql.faults import NO_PARTITION, STATEMENT_TIMEOUTS, TOO_LONG_PACKET, Fate
from sensorsync.storage.mysql.own_tables import range_columns
from sensorsync.storage.mysql.own_upsert import OwnUpsert
from sensorsync.storage.mysql.statement import Policy, ReadingUpsert, Upsert, statements
from sensorsync.storage.target_table import Upserts

logger = logging.getLogger(__name__)

_PACKET_MARGIN: Final = 1024
_ALL_ROWS: Final = 1_000_000
_PLAUSIBLE_AGE: Final = timedelta(days=366)
_COUNTS = re.compile(rb"\D*(\d+)\D+(\d+)")
_ANOTHER_KEY: Final = frozenset({1048, 1365})
"""What the upsert of an own table makes the server say (`own_upsert`)."""
_NOT_ITS_OWN: Final = (
    "; if that column is in the key of its mapping, the row met another one under another unique key of the table, or the table's"
    " AUTO_INCREMENT is used up"
)

Batch = Sequence[tuple[Upsert, Sequence[Any]]]
"""Table by table the rows, one per key."""


class MySqlSink:
    """The Sink of one writer thread. It checks a connection out at its first write and keeps it until that fails.

    Only where the pool is smaller than the number of sinks does it give its connection back after every write. Without `own_tables`
    all rows are readings.
    """

    def __init__(
        self, pool: Pool, conflict: Policy = "first", *, worker: int = 0, own_tables: Sequence[OwnTable] = ()
    ) -> None:
        self._pool = pool
        pool.join(self)
        self._worker = worker
        self._upserts: Upserts[Upsert] = Upserts(ReadingUpsert(conflict), OwnUpsert, own_tables)
        self._lease: Lease | None = None
        self._used = 0.0
        self._max_rows = _ALL_ROWS
        self._warned = False

    def write(self, rows: Sequence[Row]) -> int:
        """Commit all of `rows`, or none; return how many were new. Raises as `contract.Sink` says."""
        try:
            return self._write(rows) if rows else 0
        finally:
            if self._pool.scarce:
                self._give_back()

    def close(self) -> None:
        """Give the connection back."""
        self._give_back()
        self._pool.leave(self)

    def _give_back(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def _write(self, rows: Sequence[Row]) -> int:
        try:
            batch = [(upsert, upsert.distinct(some)) for upsert, some in self._upserts.batch(rows)]
            texts = [(upsert, upsert.rows(chosen)) for upsert, chosen in batch]
            lease = self._connected()
            parts = self._parts(lease, texts)
        except (ValueError, TypeError, OverflowError, pymysql.ProgrammingError) as error:
            raise BatchRefused(f"a value that no SQL can say: {error}") from error
        new = self._transact(lease, parts, batch)
        self._max_rows = min(self._max_rows * 2, _ALL_ROWS)
        return new

    def _parts(self, lease: Lease, texts: Sequence[tuple[Upsert, Sequence[str]]]) -> list[tuple[bytes, bool]]:
        """The statements, each with `Upsert.no_op`. BatchRefused when a row alone is too long for one."""
        server = lease.server
        parts: list[tuple[bytes, bool]] = []
        for upsert, rows in texts:
            made = statements(
                rows,
                upsert.suffix(row_alias=server.row_alias),
                prefix=upsert.prefix,
                max_bytes=server.max_allowed_packet - _PACKET_MARGIN,
                max_rows=self._max_rows,
            )
            if made is None:
                raise BatchRefused(
                    f"a row is longer than max_allowed_packet allows ({server.max_allowed_packet} bytes)",
                    errno=TOO_LONG_PACKET,
                )
            parts += [(statement, upsert.no_op) for statement in made]
        return parts

    def _connected(self) -> Lease:
        now = time.monotonic()
        idle = now - self._used
        if self._lease is not None and idle > self._pool.connector.idle_limit and not self._lease.alive():
            self._drop(self._lease)
        self._used = now
        if self._lease is None:
            self._lease = self._pool.checkout(self._worker)
        return self._lease

    def _transact(self, lease: Lease, parts: Sequence[tuple[bytes, bool]], batch: Batch) -> int:
        committing = False
        try:
            lease.begin()
            with lease.connection.cursor() as cursor:
                new = sum(self._execute(cursor, statement, no_op=no_op) for statement, no_op in parts)
            committing = True
            lease.commit()
        except Exception as error:  # noqa: BLE001 - _fail always raises: one of the three outcomes
            self._fail(lease, error, batch, committing=committing)
        except BaseException:
            self._drop(lease)  # interrupted between request and answer: the connection is out of step
            raise
        return new

    def _execute(self, cursor: Any, statement: bytes, *, no_op: bool) -> int:
        """Run one upsert; how many of its rows were new."""
        affected: int = cursor.execute(statement)
        # A no-op update counts 0.
        new = affected if no_op else affected - 2 * _updated(cursor, affected)
        if cursor.warning_count and not self._warned:
            self._warned = True
            some = cursor.connection.show_warnings()[:3]
            extra = {"event": "sql_warning", "worker": self._worker}
            logger.warning("[WORKER-%d] the server warned about the upsert: %s", self._worker, some, extra=extra)
        return new

    def _fail(self, lease: Lease, error: Exception, batch: Batch, *, committing: bool) -> NoReturn:
        """Roll back, then raise the outcome. Always in this order: a lock wait undoes only its own statement (1205)."""
        diagnosis = diagnose(error)
        chosen: list[Row] = [row for _, rows in batch for row in rows]
        usable = lease.rollback() and not diagnosis.lost
        fate = self._fate(lease, diagnosis, chosen, usable=usable)
        if not usable or fate in {Fate.OUTAGE, Fate.CONFIG} or diagnosis.errno == TOO_LONG_PACKET:
            self._drop(lease)  # the primary may have moved, rights may have changed: connect anew
        if diagnosis.errno in STATEMENT_TIMEOUTS:
            # The time counts per statement, not per transaction.
            self._max_rows = max(1, min(self._max_rows, len(chosen)) // 2)
        if fate is Fate.REJECT:
            note = _NOT_ITS_OWN if not self._upserts.only_readings and diagnosis.errno in _ANOTHER_KEY else ""
            raise BatchRefused(f"{diagnosis.message}{note}", errno=diagnosis.errno) from error
        decided = diagnosis._replace(fault=diagnosis.fault._replace(fate=fate))
        raise outcome(decided, self._pool.connector.where, ambiguous=committing and diagnosis.lost) from error

    def _fate(self, lease: Lease, diagnosis: Diagnosis, chosen: Sequence[Row], *, usable: bool) -> Fate:
        fate = diagnosis.fault.fate
        if fate is Fate.UNKNOWN:
            if len(chosen) > 1:
                return Fate.REJECT  # bisect first
            return Fate.REJECT if usable and lease.alive() else Fate.OUTAGE
        if diagnosis.errno == NO_PARTITION and len(chosen) == 1 and _awaited(lease, chosen[0]):
            return Fate.OUTAGE  # the time is a likely one: somebody has to add its partition
        return fate

    def _drop(self, lease: Lease) -> None:
        lease.release(broken=True)
        self._lease = None


def _updated(cursor: Any, affected: int) -> int:
    """How many rows a statement changed. An inserted row counts 1 in `affected`, a changed one 2, one left as it was 0.

    For several rows the server says it in its message, "Records: 3  Duplicates: 1  Warnings: 0" (mysql_info() of the C API), in
    which the words are translated but the numbers keep their order.
    """
    found = _COUNTS.match(cursor.connection._result.message or b"")
    return int(found[2]) if found else affected // 2


def _awaited(lease: Lease, row: Row) -> bool:
    """Whether the partition that a row has not is one that somebody adds as time goes by.

    Of an own table only where partitions are of times: no other value comes to its partition by waiting, and one row of a kind that
    the table does not know would hold up all the others.
    """
    if isinstance(row, Reading):
        return _plausible(row.ts, datetime.fromtimestamp(row.received_at, UTC))
    try:
        with lease.connection.cursor() as cursor:
            by = range_columns(cursor, row.table.name)
    except pymysql.MySQLError:
        return True  # nobody knows: the same row again, on another connection
    now = datetime.now(UTC)  # the row arrived a moment ago
    times = [
        str(value)
        for column, value in zip(row.table.columns, row.values, strict=True)
        if column.kind == "time" and column.name.lower() in by
    ]
    return bool(times) and all(_plausible(time, now) for time in times)


def _plausible(ts: str, arrival: datetime) -> bool:
    """Whether a time is within a year of its row's arrival."""
    return abs(arrival - datetime.fromisoformat(f"{ts}+00:00")) < _PLAUSIBLE_AGE
