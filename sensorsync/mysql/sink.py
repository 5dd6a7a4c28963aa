"""MySqlSink: one writer's batches into `sensor_readings`, each one transaction."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn

import pymysql

from sensorsync.mysql.connect import Lease, Pool, outcome
from sensorsync.mysql.diagnosis import Diagnosis, diagnose
from sensorsync.mysql.faults import NO_PARTITION, STATEMENT_TIMEOUTS, TOO_LONG_PACKET, Fate
from sensorsync.mysql.statement import Policy, RowWriter, distinct, statements, upsert_suffix
from sensorsync.pipeline.contract import BatchRefused, Reading

logger = logging.getLogger(__name__)

_PACKET_MARGIN: Final = 1024
_ALL_ROWS: Final = 1_000_000
_PLAUSIBLE_AGE: Final = timedelta(days=366)
_COUNTS = re.compile(rb"\D*(\d+)\D+(\d+)")


class MySqlSink:
    """The Sink of one writer thread. It checks a connection out at its first write and keeps it until that fails.

    Only where the pool is smaller than the number of sinks does it give its connection back after every write.
    """

    def __init__(self, pool: Pool, conflict: Policy = "first", *, worker: int = 0) -> None:
        self._pool = pool
        pool.join(self)
        self._policy: Policy = conflict
        self._worker = worker
        self._row_writer = RowWriter()
        self._lease: Lease | None = None
        self._used = 0.0
        self._suffix = b""
        self._max_rows = _ALL_ROWS
        self._warned = False

    def write(self, readings: Sequence[Reading]) -> int:
        """Commit all of `readings`, or none; return how many rows were new. Raises as `contract.Sink` says."""
        try:
            return self._write(readings) if readings else 0
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

    def _write(self, readings: Sequence[Reading]) -> int:
        chosen = distinct(readings, self._policy)
        try:
            rows = self._row_writer.rows(chosen)
            lease = self._connected()
            limit = lease.server.max_allowed_packet - _PACKET_MARGIN
            parts = statements(rows, self._suffix, max_bytes=limit, max_rows=self._max_rows)
        except (ValueError, TypeError, OverflowError, pymysql.ProgrammingError) as error:
            raise BatchRefused(f"a value that no SQL can say: {error}") from error
        if parts is None:
            raise BatchRefused(
                f"a row is longer than max_allowed_packet allows ({lease.server.max_allowed_packet} bytes)",
                errno=TOO_LONG_PACKET,
            )
        new = self._transact(lease, parts, chosen)
        self._max_rows = min(self._max_rows * 2, _ALL_ROWS)
        return new

    def _connected(self) -> Lease:
        now = time.monotonic()
        idle = now - self._used
        if self._lease is not None and idle > self._pool.connector.idle_limit and not self._lease.alive():
            self._drop(self._lease)
        self._used = now
        if self._lease is None:
            self._lease = self._pool.checkout(self._worker)
            self._suffix = upsert_suffix(self._policy, row_alias=self._lease.server.row_alias)
        return self._lease

    def _transact(self, lease: Lease, parts: Sequence[bytes], chosen: Sequence[Reading]) -> int:
        committing = False
        try:
            lease.begin()
            with lease.connection.cursor() as cursor:
                new = sum(self._execute(cursor, part) for part in parts)
            committing = True
            lease.commit()
        except Exception as error:  # noqa: BLE001 - _fail always raises: one of the three outcomes
            self._fail(lease, error, chosen, committing=committing)
        except BaseException:
            self._drop(lease)  # interrupted between request and answer: the connection is out of step
            raise
        return new

    def _execute(self, cursor: Any, statement: bytes) -> int:
        """Run one upsert; how many of its rows were new."""
        affected: int = cursor.execute(statement)
        # A no-op update counts 0.
        new = affected if self._policy == "first" else affected - 2 * _updated(cursor, affected)
        if cursor.warning_count and not self._warned:
            self._warned = True
            some = cursor.connection.show_warnings()[:3]
            extra = {"event": "sql_warning", "worker": self._worker}
            logger.warning("[WORKER-%d] the server warned about the upsert: %s", self._worker, some, extra=extra)
        return new

    def _fail(self, lease: Lease, error: Exception, chosen: Sequence[Reading], *, committing: bool) -> NoReturn:
        """Roll back, then raise the outcome. Always in this order: a lock wait undoes only its own statement (1205)."""
        diagnosis = diagnose(error)
        usable = lease.rollback() and not diagnosis.lost
        fate = self._fate(lease, diagnosis, chosen, usable=usable)
        if not usable or fate in {Fate.OUTAGE, Fate.CONFIG} or diagnosis.errno == TOO_LONG_PACKET:
            self._drop(lease)  # the primary may have moved, rights may have changed: connect anew
        if diagnosis.errno in STATEMENT_TIMEOUTS:
            # The time counts per statement, not per transaction.
            self._max_rows = max(1, min(self._max_rows, len(chosen)) // 2)
        if fate is Fate.REJECT:
            raise BatchRefused(diagnosis.message, errno=diagnosis.errno) from error
        decided = diagnosis._replace(fault=diagnosis.fault._replace(fate=fate))
        raise outcome(decided, self._pool.connector.where, ambiguous=committing and diagnosis.lost) from error

    def _fate(self, lease: Lease, diagnosis: Diagnosis, chosen: Sequence[Reading], *, usable: bool) -> Fate:
        fate = diagnosis.fault.fate
        if fate is Fate.UNKNOWN:
            if len(chosen) > 1:
                return Fate.REJECT  # bisect first
            return Fate.REJECT if usable and lease.alive() else Fate.OUTAGE
        if diagnosis.errno == NO_PARTITION and len(chosen) == 1 and _plausible(chosen[0]):
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


def _plausible(reading: Reading) -> bool:
    """Whether the reading's time is within a year of its arrival."""
    arrival = datetime.fromtimestamp(reading.received_at).astimezone()
    then = datetime.fromisoformat(f"{reading.ts}+00:00")
    return abs(arrival - then) < _PLAUSIBLE_AGE
