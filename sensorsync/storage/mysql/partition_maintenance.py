"""Maintenance of the partitions of `sensor_readings`: adds the coming days, and drops the expired ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import pymysql

from sensorsync.config import DatabaseSettings
from sensorsync.errors import ConfigurationError, DatabaseError
from sensorsync.storage.mysql.connect import ConnectionFactory
from sensorsync.storage.mysql.diagnosis import diagnose_error
from sensorsync.storage.mysql.faults import ErrorAction
from sensorsync.storage.mysql.migrations import quote_identifier
from sensorsync.storage.mysql.partitions import DAYS_BACK, Partition, PartitionPlan, parse_bound, plan_partitions
from sensorsync.storage.mysql.schema import database_connection, migration_lock
from sensorsync.storage.mysql.session import query_server_info
from sensorsync.storage.store import DroppedPartition, MaintenanceReport, rfc3339

logger = logging.getLogger(__name__)

_REBUILD_TIMEOUT: Final = 86400.0
_LOCK_WAIT: Final = 1
"""Seconds that an ALTER waits for its lock at a time; MariaDB waits for two locks.

Other writers wait behind it, so this has to stay well below the 5 seconds that `subscribe` waits.
"""
_LONG_LOCK_WAIT: Final = 60
"""The same for an ALTER that takes long. It needs the lock again at its end, and the whole work is lost when it does
not get it then.
"""
_LOCK_NOT_GRANTED: Final = 1205
_RETRY_DELAYS: Final = (1.0, 2.0, 4.0, 8.0)
"""Seconds between the attempts to get the lock. Other transactions can write meanwhile."""
_COUNT_LIMIT: Final = 10_000_000
_COUNT: Final = "SELECT COUNT(*) FROM (SELECT 1 FROM sensor_readings PARTITION ({partition}) LIMIT {limit}) AS counted"
_CHEAP_ROWS: Final = 100_000
"""The number of rows that are moved without confirmation. This takes some seconds."""
_ROWS_PER_MINUTE: Final = 2_000_000
"""The rough speed of a rebuild on a small machine."""
_BLOCKED_WRITES_NOTE: Final = "Meanwhile nothing can be written (subscribers wait, their messages stay in the broker)"
_MAX_CLOCK_DIFFERENCE: Final = timedelta(hours=1)


class _TableState(NamedTuple):
    """The state of the table on the server."""

    partitions: tuple[Partition, ...]
    now: datetime
    rows: int
    """The estimated number of rows of a table without partitions."""
    size: int
    """Bytes, indexes included."""
    open_rows: int
    """The number of rows in the partition that ends in MAXVALUE, counted up to _COUNT_LIMIT."""
    oldest: datetime | None
    """The time of the oldest row in the last DAYS_BACK days, where no partition has a bound."""


def maintain_partitions(
    connector: ConnectionFactory,
    settings: DatabaseSettings,
    retain: timedelta | None,
    *,
    partitions: bool,
    dry_run: bool,
) -> MaintenanceReport:
    """Maintain the partitions as described at `store.Store.maintain`."""
    with database_connection(connector, read_timeout=_REBUILD_TIMEOUT) as connection, connection.cursor() as cursor:
        if not query_server_info(connection).mariadb:
            cursor.execute("SET information_schema_stats_expiry = 0")  # estimates may otherwise be a day old
        if dry_run:
            table = _read_table_state(cursor, partitions=partitions)
            return _maintenance_report(
                table, plan_partitions(table.partitions, table.now, retain=retain, oldest=table.oldest), retain
            )
        with migration_lock(cursor, settings.name, connector.address):
            table = _read_table_state(cursor, partitions=partitions)
            plan = plan_partitions(table.partitions, table.now, retain=retain, oldest=table.oldest)
            lock_wait = _LONG_LOCK_WAIT if _cost_warning(table, plan.added) else _LOCK_WAIT
            cursor.execute("SET lock_wait_timeout = %s", (lock_wait,))
            for statement in plan.statements:
                _alter_with_retry(cursor, statement, connector.address)
            now_open = _count_rows(cursor, plan.resulting[-1].name) if plan.added else table.open_rows
            return _maintenance_report(table._replace(open_rows=now_open), plan, retain)


def _read_table_state(cursor: Any, *, partitions: bool) -> _TableState:
    """Return the state of the table.

    Raises ConfigurationError for a table that is partitioned in another way, or that has no partitions where
    `partitions` is False.
    """
    present = _read_partitions(cursor)
    if not present and not partitions:
        raise ConfigurationError(
            "The table sensor_readings has no partitions, and without them old readings cannot be removed at once.",
            hint="add --partitions",
        )
    cursor.execute("SELECT UTC_TIMESTAMP(6)")
    now = cursor.fetchone()[0]
    check_clocks(now, datetime.now(UTC).replace(tzinfo=None))
    cursor.execute(
        "SELECT GREATEST(table_rows, EXISTS (SELECT 1 FROM sensor_readings)), data_length + index_length"
        " FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'sensor_readings'"
    )  # an estimate of 0 does not prove that the table is empty
    rows, size = cursor.fetchone()
    ended = bool(present) and present[-1].upper_bound is None
    oldest = None
    if not any(one.upper_bound for one in present):
        cursor.execute(
            "SELECT MIN(ts) FROM sensor_readings WHERE ts >= %s", (now - timedelta(days=DAYS_BACK),)
        )  # reads all rows, but less data than the rebuild
        oldest = cursor.fetchone()[0]
    return _TableState(
        present, now, int(rows), int(size), _count_rows(cursor, present[-1].name) if ended else 0, oldest
    )


def _read_partitions(cursor: Any) -> tuple[Partition, ...]:
    cursor.execute(
        "SELECT partition_name, partition_method, partition_expression, subpartition_name, partition_description, table_rows"
        " FROM information_schema.partitions WHERE table_schema = DATABASE() AND table_name = 'sensor_readings'"
        " AND partition_name IS NOT NULL ORDER BY partition_ordinal_position"
    )
    found = cursor.fetchall()
    for _, method, expression, subpartition, _, _ in found:
        if (method, str(expression).strip("`").lower(), subpartition) != ("RANGE COLUMNS", "ts", None):
            raise ConfigurationError(
                f"The table sensor_readings is partitioned by {method} ({expression})"
                f"{' with subpartitions' if subpartition else ''}: sensorsync keeps partitions by RANGE COLUMNS (ts) only.",
                hint="keep them by your own means, or ALTER TABLE sensor_readings REMOVE PARTITIONING first",
            )
    return tuple(Partition(row[0], parse_bound(row[4]), int(row[5] or 0)) for row in found)


def check_clocks(server: datetime, local: datetime) -> None:
    """Raise DatabaseError where the clocks differ by more than an hour. Otherwise a wrong clock could cause readings to be dropped."""
    if abs(server - local) > _MAX_CLOCK_DIFFERENCE:
        raise DatabaseError(
            f"The database server's clock says {rfc3339(server)}, this machine's {rfc3339(local)}: one of them is wrong, and"
            " readings must not be dropped by it.",
            hint="set the clocks right (NTP), then run this again",
        )


def _count_rows(cursor: Any, partition: str) -> int:
    cursor.execute(_COUNT.format(partition=quote_identifier(partition), limit=_COUNT_LIMIT))
    return int(cursor.fetchone()[0])


def _alter_with_retry(cursor: Any, statement: str, address: str) -> None:
    """Run the statement, and retry it while its lock is not granted.

    Other transactions can run between the attempts, because a waiting ALTER blocks all statements behind it.
    """
    for pause in (*_RETRY_DELAYS, None):
        try:
            cursor.execute(statement)
        except pymysql.MySQLError as error:
            diagnosis = diagnose_error(error)
            if diagnosis.errno == _LOCK_NOT_GRANTED:
                if pause is None:
                    raise DatabaseError(
                        f"{address}: sensor_readings is in use by a transaction that does not end, so its partitions could not be"
                        " changed.",
                        hint="run this again later; SHOW FULL PROCESSLIST on the server shows who is at it",
                    ) from error
                logger.info(
                    "sensor_readings is in use; trying again in %.0f s", pause, extra={"event": "partitions_wait"}
                )
                time.sleep(pause)
                continue
            if diagnosis.rule.action in {ErrorAction.UNKNOWN, ErrorAction.REJECT}:
                raise DatabaseError(
                    f"{address}: the server cannot do this with sensor_readings: {diagnosis.message}"
                ) from error
            raise
        return


def _maintenance_report(
    table: _TableState, partition_plan: PartitionPlan, retain: timedelta | None
) -> MaintenanceReport:
    bounds = [one.upper_bound for one in partition_plan.resulting if one.upper_bound]
    return MaintenanceReport(
        retained_since=None if retain is None else rfc3339(table.now - retain),
        costs=_cost_warning(table, partition_plan.added),
        partitioned=bool(table.partitions),
        added=tuple(one.name for one in partition_plan.added),
        dropped=tuple(
            DroppedPartition(one.name, rfc3339(one.upper_bound), one.rows)
            for one in partition_plan.dropped
            if one.upper_bound
        ),
        statements=partition_plan.statements,
        partitions=len(partition_plan.resulting),
        covered_until=rfc3339(bounds[-1]),
        rows_beyond=table.open_rows,
    )


def _cost_warning(table: _TableState, added: Sequence[Partition]) -> str | None:
    if not table.partitions and table.rows:
        return (
            f"The server rebuilds the table to partition it: about {table.rows:,} rows, {table.size / 2**20:,.0f} MiB, which takes"
            f" {_format_minutes(table.rows)}. {_BLOCKED_WRITES_NOTE}, and the server's disk needs room for the table a second time."
        )
    if added and table.open_rows > _CHEAP_ROWS:
        more = " or more" if table.open_rows == _COUNT_LIMIT else ""
        return (
            f"{table.open_rows:,}{more} rows have got into the last partition and are moved to those of their days, which takes"
            f" {_format_minutes(table.open_rows)}{more}. {_BLOCKED_WRITES_NOTE}."
        )
    return None


def _format_minutes(rows: int) -> str:
    minutes = round(rows / _ROWS_PER_MINUTE)
    return f"about {minutes:,} minutes" if minutes > 1 else "about a minute" if minutes else "less than a minute"
