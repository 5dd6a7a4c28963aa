"""Removal of old readings from a database file. It has no partitions, so rows are deleted in small transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sensorsync.storage.sqlite.connect import database_connection
from sensorsync.storage.store import MaintenanceReport, rfc3339

_PIECE: Final = 5_000
"""The number of rows that one transaction deletes. A writer waits for the end of one transaction, not of all."""
_NEXT: Final = "SELECT device_id, metric FROM sensor_readings WHERE (device_id, metric) > (?, ?) ORDER BY device_id, metric LIMIT 1"
_COUNT: Final = "SELECT count(*) FROM sensor_readings WHERE device_id = ? AND metric = ? AND ts < ?"
_DELETE: Final = (
    "DELETE FROM sensor_readings WHERE (device_id, metric, ts, event_id) IN (SELECT device_id, metric, ts, event_id FROM"
    " sensor_readings WHERE device_id = ? AND metric = ? AND ts < ? ORDER BY ts, event_id LIMIT ?)"
)


def delete_expired_readings(path: Path, retain: timedelta, *, dry_run: bool) -> MaintenanceReport:
    """Delete old readings as described at `store.Store.maintain`."""
    cutoff = datetime.now(UTC).replace(tzinfo=None) - retain
    before = cutoff.isoformat(" ", "microseconds")
    removed = 0
    with database_connection(path, read_only=dry_run) as connection:
        for series in _series(connection):
            if dry_run:
                removed += connection.execute(_COUNT, (*series, before)).fetchone()[0]
                continue
            while piece := connection.execute(_DELETE, (*series, before, _PIECE)).rowcount:
                removed += piece
    return MaintenanceReport(retained_since=rfc3339(cutoff), deleted=removed)


def _series(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield each device and metric.

    This takes one step in the key's tree for each, and the old rows of one series are adjacent.
    """
    last = ("", "")
    while found := connection.execute(_NEXT, last).fetchone():
        last = found
        yield last
