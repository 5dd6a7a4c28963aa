"""The types of a reading, its bounds, and every reason for which a message is none.

The bounds are those of the table's columns and hold for every database, so that the same message has the same fate everywhere and
no server has to refuse it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

MAX_ID = 128
"""Characters of a device id and of a metric."""
MAX_UNIT = 32
"""Characters."""
MAX_VALUE_TEXT = 1024
"""Characters of a value that is a text. A state is a word; a document is no reading."""
MAX_TOPIC = 1024
"""Characters."""
MAX_NESTING = 31
"""Levels of objects and arrays, the reading's own counted: what MariaDB's JSON functions take (MySQL takes 100)."""


class Reading(NamedTuple):
    """One measurement, ready to be stored.

    The first four fields in the order (device_id, metric, ts, event_id) are its key. None of them depends on the clock of arrival
    unless the configuration says so, so that a redelivery has the same key.
    """

    event_id: bytes
    """16 bytes of a UUID."""
    device_id: str
    """1 to 128 characters, no blanks at its ends, no control characters."""
    metric: str
    """1 to 128 characters, no blanks at its ends, no control characters."""
    ts: str
    """UTC without a zone, `2026-01-02 03:04:05.123456`: always 26 characters, so that text order is time order."""
    value: float | None
    """A finite number; booleans are 0 and 1. None when the state is a text, or null."""
    value_text: str | None
    """At most 1024 characters, no NUL."""
    unit: str | None
    """At most 32 characters, no NUL."""
    topic: str
    """At most 1024 characters."""
    received_at: float
    """When the message arrived here, in seconds since 1970-01-01T00:00:00Z."""
    payload: str
    """The whole reading as decoded, without its envelope: the JSON text as it came, so no digit of it is lost."""


class Rejected(NamedTuple):
    """A message that is no reading, and why."""

    reason: str
    """A stable word for machines: `json`, `type`, `ts`, `signature`, ... (see REASONS)."""
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
"""Every reason that `reading`, `mapping` and `envelope` give, for the reference documentation."""


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """What the configuration decides about readings. Topic levels count from 0; sizes in bytes, durations in seconds."""

    missing_ts: Literal["park", "epoch", "arrival"] = "park"
    """What becomes of a reading without `ts` whose event_id is no UUIDv7.

    `epoch` files it under 1970-01-01; `arrival` takes the clock, so a redelivery stores a second row.
    """
    missing_id: Literal["park", "payload"] = "park"
    """What becomes of a reading without `event_id`. `payload` makes identical messages on one topic one row."""
    device_id_level: int | None = None
    """The topic level that is the device id. It wins over the payload: a broker's access rules guard topics, not payloads."""
    metric_level: int | None = None
    """The topic level that is the metric, likewise."""
    max_payload: int = 256 * 1024
    max_age: float | None = None
    """Readings older than this when they arrive are rejected."""


class DecodeError(Exception):
    """Carries a rejection out of the depth of the decoder."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.rejection = Rejected(reason, message)
