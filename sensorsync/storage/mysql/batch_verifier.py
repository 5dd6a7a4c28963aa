"""When the connection of a writer and the tables of its batch are verified: before, within and after a transaction."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

import pymysql

from sensorsync.messages.reading import TargetTable
from sensorsync.pipeline.contract import SinkMisconfigured, SinkVerificationFailed
from sensorsync.storage.mysql.connect import ConnectionFactory, Lease, sink_error
from sensorsync.storage.mysql.diagnosis import diagnose_error
from sensorsync.storage.mysql.table_verifier import TableVerifier
from sensorsync.storage.target_table import READINGS_TABLE

TABLE_INTERVAL: Final = 0.05
"""Seconds between two checks of a table on one connection: rows of transactions in between are committed unchecked.

A check takes 50 us on MariaDB 10.11 and 90 us on MySQL 9.7, so the checks take 0.2 % of a writer's time.
"""
SESSION_INTERVAL: Final = 2.0
"""Seconds between two checks of the session's settings on one connection. A check takes 100 us."""
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
        try:
            with lease.connection.cursor() as cursor:
                for table in unknown:
                    self._verify(cursor, table)
                    lease.checks[_name(table)] = 0.0  # and again before the first COMMIT
        except (pymysql.Error, OSError) as error:
            raise sink_error(diagnose_error(error, connecting=True), self._connector.address) from error

    def before_commit(self, lease: Lease, tables: Tables) -> None:
        """Verify the tables whose last check is TABLE_INTERVAL ago, and the session. Raises what the driver raises."""
        now = time.monotonic()
        due = [table for table in tables if now - lease.checks.get(_name(table), 0.0) >= TABLE_INTERVAL]
        if due:
            with lease.connection.cursor() as cursor:
                for table in due:
                    self._verify(cursor, table)
                    lease.checks[_name(table)] = now
        if now - lease.checks.setdefault(_SESSION, now) >= SESSION_INTERVAL:
            try:
                self._connector.verify_session(lease.connection)
            except SinkMisconfigured as error:
                raise SinkVerificationFailed(str(error), hint=error.hint) from error
            lease.checks[_SESSION] = now

    def after_rejection(self, lease: Lease, tables: Tables, *, is_key_conflict: bool) -> None:
        """Verify the tables whose server has refused a row: a table that was changed is to blame, and not the row."""
        now = time.monotonic()
        try:
            with lease.connection.cursor() as cursor:
                for table in tables:
                    if is_key_conflict or now - lease.checks.get(_name(table), 0.0) >= TABLE_INTERVAL:
                        self._verify(cursor, table)
                        lease.checks[_name(table)] = now
        except (pymysql.Error, OSError) as error:
            raise sink_error(diagnose_error(error, connecting=True), self._connector.address) from error

    def _verify(self, cursor: Any, table: TargetTable | None) -> None:
        self._verifier.verify(cursor, table, self._connector.address)


def _name(table: TargetTable | None) -> str:
    return READINGS_TABLE if table is None else table.name
