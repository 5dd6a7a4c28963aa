"""Measurement of the commit latency and the insert rate in a scratch table with the columns and keys of `sensor_readings`."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

from sensorsync.config import DatabaseSettings
from sensorsync.messages.reading import Reading
from sensorsync.storage.mysql.connect import Connection, ConnectionFactory
from sensorsync.storage.mysql.migrations import migrations
from sensorsync.storage.mysql.schema import database_connection
from sensorsync.storage.mysql.session import query_server_info
from sensorsync.storage.mysql.statement import RowFormatter, build_statements, upsert_suffix
from sensorsync.storage.mysql.tuning.privileges import SCRATCH_TABLE

_READINGS_TABLE: Final = "sensor_readings"
_MARGIN: Final = 1024
_MAX_BATCH_ROWS: Final = 5000
_DEVICES: Final = 500
_SHARE_OF_COMMITS: Final = 0.4


class Measurement(NamedTuple):
    """One measurement."""

    commit_p50: float
    """Seconds of a transaction of one row, as a measure of COMMIT."""
    commit_p99: float
    commits: int
    rows_per_second: float
    """The rate of all connections together, in batches. Only the time in which they waited for the server counts."""
    rows: int
    connections: int
    batch: int
    """The number of rows in one transaction."""


def measure(settings: DatabaseSettings, *, connections: int, batch: int, seconds: float) -> Measurement:
    """Write for about `seconds`, first one row at a time, then in batches. The table is dropped in any case.

    Raises SinkUnavailable or SinkMisconfigured, for example for an account that may not create the table.
    """
    connector = ConnectionFactory(settings)
    batch = min(batch, _MAX_BATCH_ROWS)
    with _scratch_table(connector):
        latencies = _measure_commits(connector, seconds * _SHARE_OF_COMMITS)
        until = time.monotonic() + seconds * (1 - _SHARE_OF_COMMITS)
        with ThreadPoolExecutor(connections) as pool:
            done = list(pool.map(lambda worker: _measure_batches(connector, worker, batch, until), range(connections)))
    latencies.sort()
    return Measurement(
        latencies[len(latencies) // 2],
        latencies[len(latencies) * 99 // 100],
        len(latencies),
        sum(rows / taken for rows, taken in done),
        sum(rows for rows, _ in done),
        connections,
        batch,
    )


@contextlib.contextmanager
def _scratch_table(connector: ConnectionFactory) -> Iterator[None]:
    """Create an empty table like `sensor_readings` for the duration of the block.

    No other tune-db uses it at the same time, because the caller holds the lock of this server.
    """
    made = [
        text.replace(_READINGS_TABLE, SCRATCH_TABLE)
        for one in migrations()
        for text in one.statements
        if _READINGS_TABLE in text
    ]
    drop = f"DROP TABLE IF EXISTS {SCRATCH_TABLE}"
    try:
        with database_connection(connector) as connection, connection.cursor() as cursor:
            for statement in (drop, *made):  # a killed tune-db may have left a full table
                cursor.execute(statement)
        yield
    finally:
        with database_connection(connector) as connection, connection.cursor() as cursor:
            cursor.execute(drop)


def _measure_commits(connector: ConnectionFactory, seconds: float) -> list[float]:
    source = _ReadingGenerator(worker=0)
    taken: list[float] = []
    until = time.monotonic() + seconds
    with database_connection(connector) as connection:
        packet = query_server_info(connection).max_allowed_packet
        while not taken or time.monotonic() < until:
            taken.append(_run_transaction(connection, source.upsert_statements(1, packet)))
    return taken


def _measure_batches(connector: ConnectionFactory, worker: int, batch: int, deadline: float) -> tuple[int, float]:
    """Return the number of rows and the seconds that they took."""
    source = _ReadingGenerator(worker=worker + 1)
    rows, taken = 0, 0.0
    with database_connection(connector) as connection:
        packet = query_server_info(connection).max_allowed_packet
        while not rows or time.monotonic() < deadline:
            taken += _run_transaction(connection, source.upsert_statements(batch, packet))
            rows += batch
    return rows, taken


def _run_transaction(connection: Connection, parts: list[bytes]) -> float:
    began = time.perf_counter()
    connection.begin()
    cursor: Any = connection.cursor()  # the driver accepts bytes, but its type stubs do not
    for part in parts:
        cursor.execute(part)
    connection.commit()
    return time.perf_counter() - began


class _ReadingGenerator:
    """A generator of readings of many devices in turn, each a second later than the device's last one."""

    def __init__(self, *, worker: int) -> None:
        self._worker = worker
        self._count = 0
        self._random = random.Random(os.urandom(8))  # noqa: S311 - ids of rows that are thrown away
        self._writer = RowFormatter()

    def upsert_statements(self, rows: int, max_packet: int) -> list[bytes]:
        """Return the upsert of `rows` new rows."""
        readings = sorted((self._reading() for _ in range(rows)), key=lambda one: (one.device_id, one.metric, one.ts))
        texts = self._writer.format_rows(readings)
        suffix = upsert_suffix("first", row_alias=False).replace(_READINGS_TABLE.encode(), SCRATCH_TABLE.encode())
        # A single row is always shorter than a packet here, so the result is not None.
        made = build_statements(texts, suffix, max_bytes=max_packet - _MARGIN, max_rows=rows) or []
        return [one.replace(_READINGS_TABLE.encode(), SCRATCH_TABLE.encode(), 1) for one in made]

    def _reading(self) -> Reading:
        self._count += 1
        turn, device = divmod(self._count, _DEVICES)
        value = self._random.random()
        second = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(1_700_000_000 + turn))
        name = f"tune-{self._worker}-{device:04d}"
        return Reading(
            self._random.randbytes(16),
            name,
            "temperature",
            f"{second}.000000",
            value,
            None,
            "C",
            f"sensors/tune/{name}",
            1_700_000_000.0,
            f'{{"device_id": "{name}", "metric": "temperature", "value": {value}, "unit": "C", "seq": {self._count}}}',
        )
