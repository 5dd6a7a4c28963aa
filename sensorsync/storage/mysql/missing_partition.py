"""A row whose partition is missing: a matter of time, or the row's fault."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pymysql

from sensorsync.messages.reading import Reading
from sensorsync.pipeline.contract import Row
from sensorsync.storage.mysql.connect import Lease
from sensorsync.storage.mysql.target_tables import has_partitions, range_partition_columns

_PLAUSIBLE_AGE: Final = timedelta(days=366)


def may_get_partition(lease: Lease, row: Row) -> bool:
    """Return True where the partition that a row lacks is one that somebody adds as time goes by.

    For a target table only where partitions are of times: no other value comes to its partition by waiting, and one row of a kind
    that the table does not know would hold up all the others.
    """
    if isinstance(row, Reading):
        return _is_plausible_time(row.ts, datetime.fromtimestamp(row.received_at, UTC))
    try:
        with lease.connection.cursor() as cursor:
            by = range_partition_columns(cursor, row.table.name)
    except pymysql.MySQLError:
        return True  # nobody knows: the same row again, on another connection
    now = datetime.now(UTC)  # the row arrived a moment ago
    times = [
        str(value)
        for column, value in zip(row.table.columns, row.values, strict=True)
        if column.kind == "time" and column.name.lower() in by
    ]
    return bool(times) and all(_is_plausible_time(time, now) for time in times)


def is_partitioned(lease: Lease, table: str) -> bool:
    """Return True where the table has partitions of its own; also where nobody knows."""
    try:
        with lease.connection.cursor() as cursor:
            return has_partitions(cursor, table)
    except pymysql.MySQLError:
        return True


def _is_plausible_time(ts: str, arrival: datetime) -> bool:
    """Return True for a time within a year of its row's arrival."""
    return abs(arrival - datetime.fromisoformat(f"{ts}+00:00")) < _PLAUSIBLE_AGE
