"""The section `mappings`: messages that are not in our own format, and the rows that they become."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sensorsync.config.sections.fields import CommaSeparated, Section, setting
from sensorsync.config.sections.mapping_sources import (
    ConstantSource,
    JmesPath,
    NonEmptyText,
    PathSource,
    SourceSettings,
)
from sensorsync.config.sections.mapping_tables import TableSettings
from sensorsync.config.sections.validation import Location, ValidationIssue, raise_for_issues
from sensorsync.messages.mapping.model import FormatName
from sensorsync.messages.mapping.topics import TopicPattern, TopicTemplate

EXAMPLE_MAPPINGS = [
    {
        "name": "zigbee2mqtt",
        "topic": "zigbee2mqtt/{device}",
        "device_id": {"topic": "{device}"},
        "event_id": ["last_seen", {"topic": "{device}"}],
        "ts": "last_seen",
        "readings": [
            {"metric": "temperature", "value": "temperature", "unit": "C", "optional": True},
            {"metric": "humidity", "value": "humidity", "unit": "%", "optional": True},
            {"metric": "occupied", "value": {"path": "occupancy", "type": "boolean"}, "optional": True},
        ],
    },
    {
        "name": "power-meter",
        "topic": "meters/{meter}/power",
        "format": "value",
        "device_id": {"topic": "{meter}"},
        "missing_id": "payload",
        "missing_ts": "arrival",
        "metric": "power",
        "value": {"path": "@", "type": "number", "from_unit": "kW", "to_unit": "W"},
        "unit": "W",
    },
    {
        "name": "machines",
        "topic": "plant/{hall}/{machine}/state",
        "ts": {"path": "t", "format": "unix_ms"},
        "table": {
            "name": "machine_state",
            "key": ["machine", "at"],
            "conflict": "last",
            "columns": {
                "machine": {"topic": "{hall}-{machine}"},
                "at": {"field": "ts"},
                "celsius": {"path": "temperature.fahrenheit", "from_unit": "degF", "to_unit": "degC"},
                "running": {"path": "state", "values": {"RUN": "1", "STOP": "0"}, "type": "integer"},
            },
        },
    },
]
"""Three mappings: several readings of a message, one reading of a bare value, and a target table."""

_RECORD_FORMATS = {"senml", "csv", "influx"}
"""Formats whose document is a list of records."""


def _validate_topic_pattern(topic: str) -> str:
    TopicPattern(topic)
    return topic


def _as_list(value: object) -> object:
    """Return a list of one when the value is a single source."""
    return [value] if isinstance(value, str | dict | SourceSettings) else value


SourceList = Annotated[
    tuple[PathSource, ...],
    BeforeValidator(_as_list, json_schema_input_type=str | SourceSettings | tuple[str | SourceSettings, ...]),
]


class MappedReadingSettings(Section):
    """`mappings[].readings[]`: one reading that each element gives. `metric`, `value` and `unit` are sources."""

    metric: ConstantSource = setting(doc="What is measured. A plain text is the name itself.", example="temperature")
    value: PathSource = setting(
        doc="The value. A plain text is a JMESPath expression over the element.", example="uplink.decoded.temperature"
    )
    unit: ConstantSource | None = setting(None, doc="The unit. A plain text is the unit itself.", example="C")
    optional: bool = setting(
        False, doc="`true`: an element without this value gives no reading, and is not rejected for it.", example=True
    )


class MappingSettings(Section):
    """`mappings[]`: one mapping. `device_id`, `event_id`, `ts`, `metric`, `value` and `unit` are sources."""

    name: Annotated[str, Field(min_length=1, max_length=64)] = setting(
        doc="A name of your choice, which dead letters and messages of the log have.", example="chirpstack"
    )
    topic: Annotated[str, AfterValidator(_validate_topic_pattern)] = setting(
        doc="Topic filter of the messages that it is for. A level may have a name in braces instead of +.",
        example="application/{application}/device/{device}/event/up",
    )
    format: FormatName = setting(
        "json",
        doc="What payloads are: `json`, `value` (a bare number or text), `senml` (RFC 8428, JSON or CBOR), `csv` or `influx` "
        "(line protocol).",
        example="json",
    )
    csv_delimiter: str = setting(
        ",", doc="`csv`: the character between two fields.", example=";", min_length=1, max_length=1
    )
    csv_columns: Annotated[tuple[NonEmptyText, ...], CommaSeparated] = setting(
        (),
        doc="`csv`: names of the fields of a line.",
        example=["time", "device", "temperature"],
        default_text="the first line of a payload has them",
    )
    influx_precision: Literal["ns", "us", "ms", "s"] = setting(
        "ns", doc="`influx`: the unit of the time stamps, `ns`, `us`, `ms` or `s`.", example="ms"
    )
    when: JmesPath | None = setting(
        None,
        doc="JMESPath expression over the document: only messages for which it is true are for this mapping.",
        example="type == 'up'",
        default_text="all messages of the topic",
    )
    each: JmesPath | None = setting(
        None,
        doc="JMESPath expression over the document that gives the elements: those of an array, or `{key, value}` for each member "
        "of an object.",
        example="object",
        default_text="the document is the element; senml, csv and influx: each record",
    )
    where: JmesPath | None = setting(
        None,
        doc="JMESPath expression over an element: the element is passed over unless it is true.",
        example="type(value) == 'number'",
        default_text="all elements",
    )
    device_id: PathSource | None = setting(
        None,
        doc="The device; readings need one. A plain text is a JMESPath expression over the element.",
        example={"topic": "{device}"},
    )
    event_id: SourceList = setting(
        (),
        doc="What is the same when the message is delivered again, and never else. Several sources make one id together. "
        "A plain text is a JMESPath expression over the element.",
        example={"root": "deduplicationId"},
        default_text="none",
    )
    ts: PathSource | None = setting(
        None,
        doc="When it was measured. A plain text is a JMESPath expression over the element.",
        example={"root": "time"},
    )
    missing_ts: Literal["park", "epoch", "arrival"] | None = setting(
        None, doc="As `reading.missing_ts`, for this mapping.", example="arrival", default_text="reading.missing_ts"
    )
    missing_id: Literal["park", "payload"] | None = setting(
        None, doc="As `reading.missing_id`, for this mapping.", example="payload", default_text="reading.missing_id"
    )
    readings: tuple[MappedReadingSettings, ...] = setting(
        (),
        doc="What each element gives.",
        example=[{"metric": "temperature", "value": "temperature", "unit": "C"}],
        default_text="none",
    )
    metric: ConstantSource | None = setting(
        None,
        doc="Instead of `readings`, where an element gives exactly one: its metric. A plain text is the name itself.",
        example={"path": "key"},
    )
    value: PathSource | None = setting(
        None, doc="With `metric`: the value. A plain text is a JMESPath expression over the element.", example="value"
    )
    unit: ConstantSource | None = setting(
        None, doc="With `metric`: the unit. A plain text is the unit itself.", example="W"
    )
    table: TableSettings | None = setting(
        None,
        doc="Instead of `readings`: a table of yours.",
        example={
            "name": "machine_state",
            "key": ["machine", "at"],
            "columns": {
                "machine": {"topic": "{machine}"},
                "at": {"path": "ts", "type": "time"},
                "celsius": "temperature",
            },
        },
    )
    keep: Literal["element", "message", "nothing"] = setting(
        "element",
        doc="What the column `payload` of a row gets: the `element`, the whole `message` or `nothing`.",
        example="nothing",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        raise_for_issues(self, self._issues())
        return self

    @property
    def all_readings(self) -> tuple[MappedReadingSettings, ...]:
        """Readings that each element gives, including the one that is written directly in the mapping."""
        if self.metric is None or self.value is None:
            return self.readings
        return (MappedReadingSettings(metric=self.metric, value=self.value, unit=self.unit),)

    @property
    def is_single(self) -> bool:
        """True when a message gives exactly one reading, whose id is the `event_id` itself."""
        return self.metric is not None and self.each is None and self.format not in _RECORD_FORMATS

    def sources(self) -> Iterator[tuple[Location, SourceSettings]]:
        """Yield every source with its place in the mapping."""
        for name in ("device_id", "ts", "metric", "value", "unit"):
            source = getattr(self, name)
            if source is not None:
                yield (name,), source
        for place, source in enumerate(self.event_id):
            yield ("event_id", place), source
        for place, reading in enumerate(self.readings):
            for name in ("metric", "value", "unit"):
                source = getattr(reading, name)
                if source is not None:
                    yield ("readings", place, name), source
        if self.table is not None:
            for name, source in self.table.columns.items():
                yield ("table", "columns", name), source

    def _issues(self) -> Iterator[ValidationIssue]:
        yield from self._result_issues()
        yield from self._format_issues()
        for place, source in self.sources():
            if source.topic is not None:
                yield from self._template_issues((*place, "topic"), source.topic)
            if source.field is not None and place[0] != "table":
                yield (*place, "field"), "is for the columns of a table alone"
            if place == ("ts",) and source.type not in {None, "time"}:
                yield (*place, "type"), "must be time, or left away"
            if place != ("ts",) and source.type != "time":
                if source.format != "rfc3339":
                    yield (*place, "format"), "is for times alone: `type: time` says that this is one"
                if source.zone is not None:
                    yield (*place, "zone"), "is for times alone: `type: time` says that this is one"

    def _template_issues(self, place: Location, text: str) -> Iterator[ValidationIssue]:
        try:
            TopicTemplate(text, TopicPattern(self.topic).names)
        except ValueError as error:
            yield place, str(error)

    def _result_issues(self) -> Iterator[ValidationIssue]:
        """Yield the issues of the result, which is either readings, one reading, or a row of a table."""
        one = [name for name in ("metric", "value", "unit") if getattr(self, name) is not None]
        given = [name for name in ("readings", "table") if getattr(self, name)] + (["metric and value"] if one else [])
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them"
            yield (), f"a mapping needs either readings, or metric and value, or table: it has {found}"
        elif one and (self.metric is None or self.value is None):
            yield (), f"metric and value need each other: there is {' and '.join(one)} alone"
        if self.table is not None and self.keep != "element" and not self.table.has_field_column("payload"):
            yield ("keep",), "says what a column with `field: payload` gets: the table has none"

    def _format_issues(self) -> Iterator[ValidationIssue]:
        defaults = {"csv_delimiter": ("csv", ","), "csv_columns": ("csv", ()), "influx_precision": ("influx", "ns")}
        for name, (format_name, default) in defaults.items():
            if self.format != format_name and getattr(self, name) != default:
                yield (name,), f"is for `format: {format_name}` alone: this one is {self.format}"
        if self.csv_delimiter in {'"', "\n", "\r", "\0"}:
            yield ("csv_delimiter",), "must not be a quotation mark, a line break or NUL"
        if len(set(self.csv_columns)) != len(self.csv_columns):
            yield ("csv_columns",), "has a name twice"
