"""The specification of a mapping, from which `Mappings` is built. The configuration checks it.

A *document* is the result of parsing a payload, in JSON's types. An *element* is the part of it that one reading (or one row) is taken
from. It is each item of `each`, or the whole document when there is no `each`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sensorsync.messages.reading.rows import ColumnKind, TargetTable

MAX_ROWS = 10_000
"""Rows of one message at most."""
MAX_PAYLOAD_COLUMN_BYTES = 1024 * 1024
"""Bytes of all `payload` columns of one message together, at most."""

FormatName = Literal["json", "value", "senml", "csv", "influx"]

FIELD_KINDS: dict[str, ColumnKind] = {
    "event_id": "id",
    "device_id": "text",
    "ts": "time",
    "topic": "text",
    "received_at": "time",
    "payload": "json",
}
"""Kinds of the columns that have a field of the mapping itself (`Source.field`)."""


class MappingError(ValueError):
    """A mapping that cannot work, found when it is built."""

    def __init__(self, key: str, message: str, column: int | None = None) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key
        """Place: `topic`, `when`, `readings[0].value.path`, `event_id[1].values`, `table.columns.temp.from_unit`, ..."""
        self.message = message
        self.column = column
        """Position in the text of an expression, in characters from 0. It can be the length of the text. None without a position."""


@dataclass(frozen=True, slots=True)
class FormatSpec:
    """The specification of a format, which turns bytes into a document."""

    name: FormatName = "json"
    delimiter: str = ","
    """For csv: one character."""
    columns: tuple[str, ...] = ()
    """For csv: names of the fields. When it is empty, the first line has them."""
    precision: Literal["ns", "us", "ms", "s"] = "ns"
    """For influx: unit of the time stamps."""


@dataclass(frozen=True, slots=True)
class Source:
    """The origin of one field and its conversions: the look-up in `values`, the `type`, then units, scale and offset.

    Exactly one of the first seven fields is given.
    """

    path: str | None = None
    """JMESPath expression over the element."""
    root: str | None = None
    """JMESPath expression over the whole document."""
    topic: str | None = None
    """Text with named levels of the topic in braces: `{room}-{device}`."""
    constant: str | None = None
    property: str | None = None
    """Name of an MQTT 5 user property; the first of that name counts."""
    content_type: bool = False
    """True for the MQTT 5 content type."""
    field: Literal["event_id", "device_id", "ts", "topic", "received_at", "payload"] | None = None
    """A field of the mapping itself. It is only for the columns of a target table."""
    values: Mapping[str, str] | None = None
    """By the text that the value has in JSON: the text that replaces it. Other values are rejected."""
    type: ColumnKind | None = None
    """None when the value stays as it arrives."""
    from_unit: str | None = None
    to_unit: str | None = None
    """Units as in pint, such as `degF` and `degC`. Both are given, or neither."""
    scale: float = 1.0
    offset: float = 0.0
    """Applied after the units: value * scale + offset."""
    format: str = "rfc3339"
    """Format of a time: `rfc3339`, `unix`, `unix_ms`, `unix_us`, `unix_ns`, `senml`, or a pattern of strptime (with % in it)."""
    zone: str | None = None
    """IANA name of the zone of times that do not contain one."""


@dataclass(frozen=True, slots=True)
class ReadingSpec:
    """One reading that each element gives."""

    metric: Source
    value: Source
    unit: Source | None = None
    optional: bool = False
    """True when an element without this value (absent or null) gives no reading and is not rejected."""


@dataclass(frozen=True, slots=True)
class MappingSpec:
    """One entry of `mappings`: the messages that it is for, and the rows that they become."""

    name: str
    topic: str
    """Topic filter with named levels: `home/{room}/+/state`, `site/{plant}/#`."""
    format: FormatSpec = field(default_factory=FormatSpec)
    when: str | None = None
    """JMESPath over the document. This mapping is only for messages for which it is true in JMESPath; else the next one is tried."""
    each: str | None = None
    """JMESPath over the document. An array gives its elements, an object gives `{key, value}` for each member, and null gives none.

    When it is not set, the document is the element, or each of its records if the format gives several (senml, csv, influx).
    """
    where: str | None = None
    """JMESPath over an element, which is skipped unless this is true."""
    event_id: tuple[Source, ...] = ()
    """Several sources make one id together."""
    device_id: Source | None = None
    ts: Source | None = None
    readings: tuple[ReadingSpec, ...] = ()
    single: bool = False
    """True for one element with one reading, whose id is the event_id itself.

    Else the id of a reading is the UUIDv5 of event_id and the reading's place.
    """
    table: TargetTable | None = None
    """Target table, instead of `readings`."""
    columns: tuple[Source, ...] = ()
    """One source for each of `table.columns`."""
    missing_ts: Literal["park", "epoch", "arrival"] = "park"
    missing_id: Literal["park", "payload"] = "park"
    keep: Literal["element", "message", "nothing"] = "element"
    """Content of `sensor_readings.payload`, as JSON. `nothing` is `{}`."""
