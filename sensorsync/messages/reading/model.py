"""The type of a reading, its bounds, and every reason why a message is rejected.

The bounds are those of the table's columns and hold for every database. The same message therefore has the same result everywhere, and
no server has to refuse it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

MAX_ID = 128
"""Characters of the longest device id or metric."""
MAX_UNIT = 32
"""Characters of the longest unit."""
MAX_VALUE_TEXT = 1024
"""Characters of the longest value that is a text. A state is a word; a document is not a reading."""
MAX_TOPIC = 1024
"""Characters of the longest topic."""
MAX_NESTING = 31
"""Levels of objects and arrays, including the reading's own. This is the limit of MariaDB's JSON functions (MySQL's is 100)."""


class Reading(NamedTuple):
    """One measurement, ready to be stored.

    The first four fields are its key, in the order (device_id, metric, ts, event_id). They do not depend on the time of arrival
    unless the configuration requires it, so that a redelivery has the same key.
    """

    event_id: bytes
    """16 bytes of a UUID."""
    device_id: str
    """1 to 128 characters, no blanks at its ends, no control characters."""
    metric: str
    """1 to 128 characters, no blanks at its ends, no control characters."""
    ts: str
    """UTC without a zone, `2026-01-02 03:04:05.123456`. It always has 26 characters, so that text order is time order."""
    value: float | None
    """A finite number. Booleans are 0 and 1. None when the value is a text or null."""
    value_text: str | None
    """At most 1024 characters, no NUL."""
    unit: str | None
    """At most 32 characters, no NUL."""
    topic: str
    """At most 1024 characters."""
    received_at: float
    """Time of arrival here, in seconds since 1970-01-01T00:00:00Z."""
    payload: str
    """The whole reading without its envelope. It is the JSON text as it arrived, so that no digit is lost."""


class Rejected(NamedTuple):
    """The reason why a message is not a reading."""

    reason: str
    """A stable word for machines: `json`, `type`, `ts`, `signature`, ... (see REJECTION_REASONS)."""
    message: str
    """A sentence for people."""


REJECTION_REASONS = {
    "too_large": "the payload is larger than the decoder takes (256 KiB; signed or encrypted 512 KiB), or has more records than one "
    "message may have (10,000)",
    "encoding": "the payload is not UTF-8",
    "json": "the payload is not JSON (a lone surrogate is no character either)",
    "nan": "NaN, Infinity or a number beyond the range of a double",
    "type": "the payload is JSON, but no object",
    "format": "the payload is not what the format of its mapping says (`value`, `senml`, `csv`, `influx`)",
    "nesting": f"objects and arrays are nested deeper than {MAX_NESTING} levels",
    "event_id": "event_id is missing, empty or no string",
    "device_id": "device_id is missing, empty, no string, longer than 128 characters, "
    "or has control characters, or blanks at its ends",
    "metric": "metric breaks one of the rules of device_id",
    "ts": "ts is missing, no RFC 3339 time with a zone, or outside of the years 1000 to 9999 in UTC",
    "age": "the reading was older than security.max_age when it arrived",
    "value": "value is missing, neither number, boolean, string nor null, or longer than 1024 characters; "
    "or a column of a mapping's own table is not what its type says, or missing and part of the key",
    "unit": "unit is no string, or longer than 32 characters",
    "topic": "the topic is longer than 1024 characters",
    "mapping": "an expression of the mapping fails with this message",
    "empty": "the mapping finds no reading in the message",
    "signature": "the signature is missing, wrong, or of an unknown key",
    "encryption": "the message is encrypted and must not be, or the other way round, or no configured key decrypts it",
}
"""Every reason that `reading`, `mapping` and `envelope` return, with its description in the reference documentation."""


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """Rules for readings that the configuration sets. Topic levels count from 0. Sizes are in bytes and durations in seconds."""

    missing_ts: Literal["park", "epoch", "arrival"] = "park"
    """Rule for a reading without `ts` whose event_id is not a UUIDv7.

    `park` rejects it. `epoch` stores it at 1970-01-01. `arrival` uses the time of arrival, so a redelivery stores a second row.
    """
    missing_id: Literal["park", "payload"] = "park"
    """Rule for a reading without `event_id`. With `payload`, identical messages on one topic become one row."""
    device_id_level: int | None = None
    """The topic level that is the device id.

    It wins over the payload, because a broker's access rules protect topics, not payloads.
    """
    metric_level: int | None = None
    """The topic level that is the metric. It also wins over the payload."""
    max_payload: int = 256 * 1024
    max_age: float | None = None
    """Readings that are older than this on arrival are rejected."""


class DecodeError(Exception):
    """A part of a message that cannot be decoded. It contains the rejection that the decoder returns."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.rejection = Rejected(reason, message)
