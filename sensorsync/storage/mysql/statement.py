"""The upsert: one multi-row statement per batch, built here because this is faster than the driver's `executemany`.

Measured against `executemany`: 76,000 rows/s instead of 56,000 on MariaDB 10.11, 113,000 instead of 74,000 on MySQL
9.7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import nan
from operator import itemgetter
from typing import Any, Final, Literal, Protocol

from pymysql.converters import escape_float, escape_string

from sensorsync.pipeline.contract import Reading

ConflictPolicy = Literal["first", "last", "newest"]

_COLUMNS: Final = "device_id,metric,ts,event_id,value,value_text,unit,topic,received_at,payload"
_PREFIX: Final = f"INSERT INTO sensor_readings({_COLUMNS})VALUES".encode()
_CONTENT_COLUMNS: Final = ("value", "value_text", "unit", "topic", "payload")
_reading_key: Final[Callable[[Reading], tuple[str, str, str, bytes]]] = itemgetter(1, 2, 3, 0)
_CACHE_LIMIT: Final = 50_000
_PREFERRED_LENGTH: Final = 8 * 2**20
"""Bytes. A longer statement is not faster and costs memory on the server. A row that is longer gets a statement of its own."""


class Upsert(Protocol):
    """The conversion of one table's rows into statements. Each writer has one per table."""

    no_op: bool
    """True when a row that exists already stays unchanged. The rows that a statement affected are then the new ones."""
    prefix: bytes
    """The part of the statement before the rows."""

    def suffix(self, *, row_alias: bool) -> bytes:
        """Return the part of the statement after the rows.

        `row_alias`: True on a server that names the new row by an alias (`ServerInfo.supports_row_alias`).
        """
        ...

    def distinct(self, rows: Sequence[Any]) -> list[Any]:
        """Return one row per key, in the order of the keys."""
        ...

    def format_rows(self, rows: Sequence[Any]) -> list[str]:
        """Return one SQL text per row.

        Raises ValueError, TypeError or the driver's ProgrammingError for a value that has no literal.
        """
        ...


class ReadingUpsert:
    """The upsert of `sensor_readings`."""

    def __init__(self, policy: ConflictPolicy) -> None:
        self._policy: ConflictPolicy = policy
        self.no_op = policy == "first"
        self.prefix = _PREFIX
        self.format_rows = RowFormatter().format_rows
        self._suffixes = {alias: upsert_suffix(policy, row_alias=alias) for alias in (False, True)}

    def suffix(self, *, row_alias: bool) -> bytes:
        return self._suffixes[row_alias]

    def distinct(self, rows: Sequence[Reading]) -> list[Reading]:
        return distinct(rows, self._policy)


def distinct(readings: Sequence[Reading], policy: ConflictPolicy) -> list[Reading]:
    """Return one reading per key, in the order of the keys; `policy` selects one of several readings with the same key.

    The order prevents deadlocks between writers that store the same rows. `newest` selects the reading that arrived
    later, and the first in the batch when the arrival times are equal.
    """
    if policy == "last":
        chosen = dict(zip(map(_reading_key, readings), readings, strict=True))
    else:
        backwards = readings[::-1]
        chosen = dict(zip(map(_reading_key, backwards), backwards, strict=True))
        if policy == "newest" and len(chosen) != len(readings):
            for reading in readings:
                key = _reading_key(reading)
                if reading.received_at > chosen[key].received_at:
                    chosen[key] = reading
    return [chosen[key] for key in sorted(chosen)]


def upsert_suffix(policy: ConflictPolicy, *, row_alias: bool) -> bytes:
    """Return the part of the statement after the rows.

    `row_alias`: True for MySQL's `AS new`, where VALUES() is deprecated; MariaDB supports only VALUES().

    `received_at` keeps the time of the first arrival. `revised_at` is the arrival of the copy whose content the row
    has, when that is not the first one; `newest` compares with it. It is assigned last, because assignments see the
    ones before them (MySQL Reference Manual, "INSERT ... ON DUPLICATE KEY UPDATE Statement").
    """
    if policy == "first":
        return b"ON DUPLICATE KEY UPDATE event_id=sensor_readings.event_id"
    alias = "AS new " if row_alias else ""
    new = "new.{}".format if row_alias else "VALUES({})".format
    old = "sensor_readings.{}".format
    if policy == "last":
        changes = [f"{column}={new(column)}" for column in _CONTENT_COLUMNS]
        changes.append(f"revised_at=NULLIF({new('received_at')},{old('received_at')})")
    else:
        newer = f"{new('received_at')}>COALESCE({old('revised_at')},{old('received_at')})"
        changes = [f"{column}=IF({newer},{new(column)},{old(column)})" for column in _CONTENT_COLUMNS]
        changes.append(f"revised_at=IF({newer},{new('received_at')},{old('revised_at')})")
    return f"{alias}ON DUPLICATE KEY UPDATE {','.join(changes)}".encode()


class RowFormatter:
    """A converter of readings into the rows of a VALUES list, as text. Each writer has one, because it caches texts that repeat.

    The driver's converters do the escaping. Only a quote and a backslash end or change a literal (C API,
    mysql_real_escape_string: other characters are escaped to be readable in logs). A text with neither, such as most
    JSON, is therefore used unchanged: this takes 0.06 us instead of 5.
    """

    def __init__(self) -> None:
        self._literals: dict[str | None, str] = {None: "NULL"}
        self._second: int | None = None
        self._second_text = ""

    def format_rows(self, readings: Sequence[Reading]) -> list[str]:
        """Return one text per reading, `('dev-1','temperature',...)`.

        Raises ValueError, TypeError or the driver's ProgrammingError for a value that has no literal (NaN, infinity).
        """
        quoted = self._literals
        if len(quoted) > _CACHE_LIMIT:
            quoted.clear()
            quoted[None] = "NULL"
        quote = self._cache_literal
        rows: list[str] = []
        add = rows.append
        arrival, arrival_text = nan, ""  # unequal to every number
        for event_id, device_id, metric, ts, value, value_text, unit, topic, received_at, payload in readings:
            if received_at != arrival:
                arrival, arrival_text = received_at, self._format_timestamp(received_at)
            number = "NULL" if value is None else escape_float(value)
            text = "NULL" if value_text is None else text_literal(value_text)
            document = payload if "'" not in payload and "\\" not in payload else escape_string(payload)
            add(
                f"({quoted.get(device_id) or quote(device_id)},{quoted.get(metric) or quote(metric)},{text_literal(ts)},"
                f"X'{event_id.hex()}',{number},{text},{quoted.get(unit) or quote(unit)},{quoted.get(topic) or quote(topic)},"
                f"'{arrival_text}','{document}')"
            )
        return rows

    def _cache_literal(self, text: str | None) -> str:
        literal = "NULL" if text is None else text_literal(text)
        self._literals[text] = literal
        return literal

    def _format_timestamp(self, seconds: float) -> str:
        """Convert Unix time into `2026-01-02 03:04:05.123456`.

        The part before the dot is formatted once per second.
        """
        second, micros = divmod(round(seconds * 1_000_000), 1_000_000)
        if second != self._second:
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")
            self._second = second
        return f"{self._second_text}.{micros:06d}"


def text_literal(text: str) -> str:
    """Return a text as a quoted SQL literal."""
    return f"'{text}'" if "'" not in text and "\\" not in text else f"'{escape_string(text)}'"


def build_statements(
    rows: Sequence[str], suffix: bytes, *, max_bytes: int, max_rows: int, prefix: bytes = _PREFIX
) -> list[bytes] | None:
    """Return the rows as complete statements, each of at most `max_bytes` bytes and `max_rows` rows.

    None when a single row is longer than `max_bytes`. Raises UnicodeEncodeError for a text that cannot be encoded as
    UTF-8 (a lone surrogate).
    """
    room = max_bytes - len(prefix) - len(suffix)
    good = min(room, _PREFERRED_LENGTH)
    if len(rows) <= max_rows:
        body = ",".join(rows).encode()
        if len(body) <= good:
            return [prefix + body + suffix]
    made: list[bytes] = []
    part: list[bytes] = []
    size = 0
    for row in rows:
        encoded = row.encode()
        if len(encoded) > room:
            return None
        if part and (size + len(encoded) + 1 > good or len(part) >= max_rows):
            made.append(prefix + b",".join(part) + suffix)
            part, size = [], 0
        part.append(encoded)
        size += len(encoded) + 1
    made.append(prefix + b",".join(part) + suffix)
    return made
