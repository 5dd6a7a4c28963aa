"""The checks of a writer's connection and of the tables of its batch: before, within and after a transaction."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from sensorsync.messages.reading import TargetTable
from sensorsync.pipeline.contract import SinkMisconfigured, SinkVerificationFailed
from sensorsync.storage.mysql.connect import ConnectionFactory, Lease, sink_error
from sensorsync.storage.mysql.diagnosis import Phase, diagnose_error
from sensorsync.storage.mysql.table_verifier import TableVerifier
from sensorsync.storage.target_table import READINGS_TABLE

TABLE_INTERVAL: Final = 0.05
"""Seconds between two checks of a table on one connection: rows of transactions in between are committed unchecked.

A check takes 50 us on MariaDB 10.11 and 90 us on MySQL 9.7, so the checks take 0.2 % of a writer's time.
"""
SESSION_INTERVAL: Final = 2.0
"""Seconds between two checks of the session's settings on one connection. A check takes 100 us."""
_LONGEST_INTERVAL: Final = 5.0
_COST_FACTOR: Final = 20
"""A check that takes longer, because the server is far away, makes the next one come later: checks take 5 % of the time at most."""
_SESSION: Final = "@@session"

Tables = Iterable[TargetTable | None]
"""The tables of a batch; None is `sensor_readings`."""


class BatchVerifier:
    """The checks of one writer. Each raises SinkVerificationFailed where the database is not as it has to be."""

    def __init__(self, connector: ConnectionFactory, verifier: TableVerifier) -> None:
        self._connector = connector
        self._verifier = verifier

    def before_writing(self, lease: Lease, tables: Tables) -> None:
        """Verify the tables that were not used on this connection yet: after a fail-over they are another server's.

        Without this check such a table could refuse good rows, which would be parked. Raises SinkUnavailable and
        SinkMisconfigured for an error of the driver.
        """
        unknown = [table for table in tables if _name(table) not in lease.checks]
        if not unknown:
            return
        with self._translate_errors(), lease.connection.cursor() as cursor:
            for table in unknown:
                self._verify(lease, cursor, table)
                lease.checks[_name(table)] = 0.0  # and again before the first COMMIT

    def before_commit(self, lease: Lease, tables: Tables) -> None:
        """Verify the tables and the session where a check is due. Raises what the driver raises."""
        now = time.monotonic()
        due = [table for table in tables if now >= lease.checks.get(_name(table), 0.0)]
        if due:
            with lease.connection.cursor() as cursor:
                for table in due:
                    self._verify(lease, cursor, table)
        if now >= lease.checks.setdefault(_SESSION, now + SESSION_INTERVAL):
            try:
                self._connector.verify_session(lease.connection)
            except SinkMisconfigured as error:
                raise SinkVerificationFailed(str(error), hint=error.hint) from error
            lease.checks[_SESSION] = next_check(now, SESSION_INTERVAL)

    def after_rejection(self, lease: Lease, tables: Tables, *, is_key_conflict: bool) -> None:
        """Verify the tables whose server has refused a row: a table that was changed is to blame, and not the row."""
        now = time.monotonic()
        with self._translate_errors(), lease.connection.cursor() as cursor:
            for table in tables:
                if is_key_conflict or now >= lease.checks.get(_name(table), 0.0):
                    self._verify(lease, cursor, table)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise the sink's error for any failure but a verification that failed.

        An answer that the driver cannot read raises other errors than its own.
        """
        try:
            yield
        except SinkVerificationFailed:
            raise
        except Exception as error:
            raise sink_error(diagnose_error(error, Phase.BEGIN), self._connector.address) from error

    def _verify(self, lease: Lease, cursor: Any, table: TargetTable | None) -> None:
        began = time.monotonic()
        is_known = self._verifier.verify(cursor, table, self._connector.address)
        # A definition that is new takes several queries, once.
        lease.checks[_name(table)] = next_check(began if is_known else time.monotonic(), TABLE_INTERVAL)


def next_check(began: float, interval: float) -> float:
    """Return when a check is due again that began at `began` and has ended now."""
    now = time.monotonic()
    return now + max(interval, min((now - began) * _COST_FACTOR, _LONGEST_INTERVAL))


def _name(table: TargetTable | None) -> str:
    return READINGS_TABLE if table is None else table.name
