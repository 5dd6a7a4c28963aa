"""The upsert: one multi-row statement per batch, built here because this is faster than the driver's `executemany`.

Measured against `executemany`: 76,000 rows/s instead of 56,000 on MariaDB 10.11, 113,000 instead of 74,000 on MySQL
9.7.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import nan
from operator import itemgetter
from typing import Any, Final, Literal, Protocol

from pymysql.converters import escape_float

from sensorsync.messages.reading import TargetTable
from sensorsync.pipeline.contract import Reading

ConflictPolicy = Literal["first", "last", "newest"]

_COLUMNS: Final = "device_id,metric,ts,event_id,value,value_text,unit,topic,received_at,payload"
_PREFIX: Final = f"INSERT INTO sensor_readings({_COLUMNS})VALUES".encode()
_CONTENT_COLUMNS: Final = ("value", "value_text", "unit", "topic", "payload")
_TEXT_KEY_COLUMNS: Final = ("device_id", "metric")
_OTHER_KEY_COLUMNS: Final = ("ts", "event_id")
_reading_key: Final[Callable[[Reading], tuple[str, str, str, bytes]]] = itemgetter(1, 2, 3, 0)
_ts: Final[Callable[[Reading], str]] = itemgetter(3)
_payload: Final[Callable[[Reading], str]] = itemgetter(9)
_CACHE_LIMIT: Final = 50_000
_BASE64_FROM: Final = 2**16
"""Bytes of a text that is not sent as it is."""
_PREFERRED_LENGTH: Final = 8 * 2**20
"""Bytes. A longer statement is not faster and costs memory on the server. A row that is longer gets a statement of its own."""


class Upsert(Protocol):
    """The conversion of one table's rows into statements. Each writer has one per table."""

    table: TargetTable | None
    """None: `sensor_readings`."""
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
        self.table: TargetTable | None = None
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
    alias = "AS new " if row_alias else ""
    new = "new.{}".format if row_alias else "VALUES({})".format
    old = "sensor_readings.{}".format
    changes = [_key_guard(new, old)]
    if policy == "first":
        pass
    elif policy == "last":
        changes += [f"{column}={new(column)}" for column in _CONTENT_COLUMNS]
        changes.append(f"revised_at=NULLIF({new('received_at')},{old('received_at')})")
    else:
        newer = f"{new('received_at')}>COALESCE({old('revised_at')},{old('received_at')})"
        changes += [f"{column}=IF({newer},{new(column)},{old(column)})" for column in _CONTENT_COLUMNS]
        changes.append(f"revised_at=IF({newer},{new('received_at')},{old('revised_at')})")
    return f"{alias}ON DUPLICATE KEY UPDATE {','.join(changes)}".encode()


def _key_guard(new: Callable[[str], str], old: Callable[[str], str]) -> str:
    """Return the first assignment: it changes nothing where the row that is there has the same key, and fails otherwise.

    ON DUPLICATE KEY UPDATE changes the row that is there under *any* unique key. When somebody adds a key, exchanges
    the table or changes the collation while we run, that can be another reading: `first` would drop ours and report
    success, `last` would overwrite the other. The ids are compared byte for byte, whatever their collation is. The
    failure is an overflow (1690), which is an error under every sql_mode; NULL in a NOT NULL column is not. It is
    evaluated only for rows that are there already.
    """
    same = " AND ".join(
        [f"CAST({old(column)} AS BINARY)<=>CAST({new(column)} AS BINARY)" for column in _TEXT_KEY_COLUMNS]
        + [f"{old(column)}<=>{new(column)}" for column in _OTHER_KEY_COLUMNS]
    )
    return f"event_id=IF(EXP(IF({same},0,1000)),{old('event_id')},NULL)"


class RowFormatter:
    """A converter of readings into the rows of a VALUES list, as text. Each writer has one, because it caches texts that repeat.

    A text with neither a quote nor a backslash, such as most JSON, is used unchanged: this takes 0.06 us. See
    `text_literal` for the others.
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
        # One check of the batch instead of two of each row: it is plain unless a single text is not.
        plain = _is_plain("".join(map(_payload, readings))) and _is_plain("".join(map(_ts, readings)))
        mark = "'" if plain else ""
        for event_id, device_id, metric, ts, value, value_text, unit, topic, received_at, payload in readings:
            if received_at != arrival:
                arrival, arrival_text = received_at, self._format_timestamp(received_at)
            number = "NULL" if value is None else escape_float(value)
            text = "NULL" if value_text is None else text_literal(value_text)
            if not plain:
                ts, payload = text_literal(ts), text_literal(payload)  # noqa: PLW2901 - as they are written
            add(
                f"({quoted.get(device_id) or quote(device_id)},{quoted.get(metric) or quote(metric)},{mark}{ts}{mark},"
                f"X'{event_id.hex()}',{number},{text},{quoted.get(unit) or quote(unit)},{quoted.get(topic) or quote(topic)},"
                f"'{arrival_text}',{mark}{payload}{mark})"
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
    """Return a text as an SQL literal that ends where it should under every sql_mode and every character set.

    No character is ever escaped: under NO_BACKSLASH_ESCAPES a backslash is a character like any other, and the quote
    that it was to escape ends the literal; in gbk, big5 and sjis a backslash can be the second byte of a character. So
    a text with a quote or a backslash is written in hexadecimal digits with its character set; a long one in Base64,
    which needs 4 characters for 3 bytes instead of 6, so that it still fits into `max_allowed_packet`. Such a literal
    is a character string: a JSON column takes it, but not a binary one (error 3144).

    Other texts are written as they are. Beyond ASCII that is right because the connection's character set was read back
    (`session.py`); under another one, such a literal would have other characters, but the same end.
    """
    if _is_plain(text):
        return f"'{text}'"
    encoded = text.encode()
    if len(encoded) < _BASE64_FROM:
        return f"_utf8mb4 X'{encoded.hex()}'"
    return f"CONVERT(FROM_BASE64('{b2a_base64(encoded, newline=False).decode()}')USING utf8mb4)"


def _is_plain(text: str) -> bool:
    return "'" not in text and "\\" not in text and "\0" not in text


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
