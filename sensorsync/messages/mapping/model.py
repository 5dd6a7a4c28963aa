"""What a mapping is: the specification that `Mappings` is built from, checked by the configuration.

A *document* is what a format makes of a payload: JSON's types. An *element* is the part of it that one reading (or one row) is taken
from: each item of `each`, or the whole document where there is no `each`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sensorsync.messages.reading.rows import ColumnKind, TargetTable

MAX_ROWS = 10_000
"""Rows of one message."""
MAX_PAYLOAD_COLUMN_BYTES = 1024 * 1024
"""Bytes of all `payload` columns of one message together."""

FormatName = Literal["json", "value", "senml", "csv", "influx"]

FIELD_KINDS: dict[str, ColumnKind] = {
    "event_id": "id",
    "device_id": "text",
    "ts": "time",
    "topic": "text",
    "received_at": "time",
    "payload": "json",
}
"""What a column has that is a field of the mapping itself (`Source.field`)."""


class MappingError(ValueError):
    """A mapping that cannot work, found when it is built."""

    def __init__(self, key: str, message: str, column: int | None = None) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key
        """Which place: `topic`, `when`, `readings[0].value.path`, `event_id[1].values`, `table.columns.temp.from_unit`, ..."""
        self.message = message
        self.column = column
        """Of an expression: where in its text, in characters from 0; it can be the text's length. None: nowhere in particular."""


@dataclass(frozen=True, slots=True)
class FormatSpec:
    """How bytes become a document."""

    name: FormatName = "json"
    delimiter: str = ","
    """csv: one character."""
    columns: tuple[str, ...] = ()
    """csv: names of the fields; empty: the first line has them."""
    precision: Literal["ns", "us", "ms", "s"] = "ns"
    """influx: unit of the time stamps."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where one field comes from, and what is done to it: looked up in `values`, made the `type`, then converted.

    Exactly one of the first seven is given.
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
    """The MQTT 5 content type."""
    field: Literal["event_id", "device_id", "ts", "topic", "received_at", "payload"] | None = None
    """Columns of own tables only: a field of the mapping itself."""
    values: Mapping[str, str] | None = None
    """Text (of the value as JSON has it) -> text; what is not in it is rejected."""
    type: ColumnKind | None = None
    """None: as it comes."""
    from_unit: str | None = None
    to_unit: str | None = None
    """Units as pint has them, such as `degF` and `degC`; both or none."""
    scale: float = 1.0
    offset: float = 0.0
    """After the units: value * scale + offset."""
    format: str = "rfc3339"
    """Of a time: `rfc3339`, `unix`, `unix_ms`, `unix_us`, `unix_ns`, `senml`, or a pattern of strptime (with % in it)."""
    zone: str | None = None
    """IANA name of the zone of a time that says none."""


@dataclass(frozen=True, slots=True)
class ReadingSpec:
    """One reading that each element gives."""

    metric: Source
    value: Source
    unit: Source | None = None
    optional: bool = False
    """An element without this value (absent or null) gives no reading, and is no fault."""


@dataclass(frozen=True, slots=True)
class MappingSpec:
    """One entry of `mappings`: which messages it is for, and what becomes of them."""

    name: str
    topic: str
    """Topic filter with named levels: `home/{room}/+/state`, `site/{plant}/#`."""
    format: FormatSpec = field(default_factory=FormatSpec)
    when: str | None = None
    """JMESPath over the document: this mapping is for messages for which it is true (JMESPath's truth); else the next is tried."""
    each: str | None = None
    """JMESPath over the document: an array gives its elements, an object `{key, value}` for each member, null or nothing none.

    None: the document itself, or each of its records where the format gives several (senml, csv, influx).
    """
    where: str | None = None
    """JMESPath over an element: it is passed over unless this is true."""
    event_id: tuple[Source, ...] = ()
    """Several make one id together."""
    device_id: Source | None = None
    ts: Source | None = None
    readings: tuple[ReadingSpec, ...] = ()
    single: bool = False
    """One element, one reading: its id is the event_id itself. Else it is the UUIDv5 of event_id and the reading's place."""
    table: TargetTable | None = None
    """Instead of `readings`."""
    columns: tuple[Source, ...] = ()
    """One for each of `table.columns`."""
    missing_ts: Literal["park", "epoch", "arrival"] = "park"
    missing_id: Literal["park", "payload"] = "park"
    keep: Literal["element", "message", "nothing"] = "element"
    """What `sensor_readings.payload` gets, as JSON; `nothing` is `{}`."""
