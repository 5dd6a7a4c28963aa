"""The settings of a source: the origin of one field of a mapping, and the conversions of its value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from sensorsync.config.sections.fields import Section, setting
from sensorsync.config.sections.suggestions import nearest_name
from sensorsync.config.sections.validation import EXPRESSION_ERROR_TYPE, ValidationIssue, raise_for_issues
from sensorsync.messages.reading.rows import ColumnKind

TIME_FORMATS = ("rfc3339", "unix", "unix_ms", "unix_us", "unix_ns", "senml")
"""Names of the `format` of a time. A pattern of strptime is also possible."""
_ORIGIN_KEYS = ("path", "root", "topic", "constant", "property", "content_type", "field")


def _scalar_to_text(value: object) -> object:
    """Convert a number or a boolean of JSON to its text, which is what a YAML file gives."""
    return json.dumps(value) if isinstance(value, bool | int | float) else value


def _validate_expression(text: str) -> str:
    from sensorsync.messages.mapping.expressions import Expression, ExpressionError  # noqa: PLC0415 - few configurations have one

    try:
        Expression(text)
    except ExpressionError as error:
        raise PydanticCustomError(
            EXPRESSION_ERROR_TYPE, "{error}", {"error": str(error), "column": error.column}
        ) from None
    return text


ScalarText = Annotated[str, BeforeValidator(_scalar_to_text, json_schema_input_type=str | float | bool)]
NonEmptyText = Annotated[str, Field(min_length=1)]
JmesPath = Annotated[NonEmptyText, AfterValidator(_validate_expression)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class SourceSettings(Section):
    """`source`: where a field comes from, by exactly one of the first seven keys, and what is done to it.

    The value is looked up in `values`, converted to `type`, converted from one unit to the other, then scaled.
    """

    path: JmesPath | None = setting(
        None, doc="JMESPath expression over the element.", example="uplink.decoded.temperature"
    )
    root: JmesPath | None = setting(
        None, doc="JMESPath expression over the whole document.", example="deviceInfo.devEui"
    )
    topic: NonEmptyText | None = setting(
        None, doc="A text with named levels of the mapping's topic in braces.", example="{room}-{device}"
    )
    constant: ScalarText | None = setting(None, doc="This text itself.", example="temperature")
    property: NonEmptyText | None = setting(
        None, doc="Name of an MQTT 5 user property; the first of that name counts.", example="device"
    )
    content_type: bool = setting(False, doc="`true`: the MQTT 5 content type of the message.", example=True)
    field: Literal["event_id", "device_id", "ts", "topic", "received_at", "payload"] | None = setting(
        None,
        doc="In `columns` only: what the mapping has as `event_id`, `device_id` or `ts`, or what every message has, `topic`, "
        "`received_at` or `payload`.",
        example="event_id",
    )
    values: dict[str, ScalarText] | None = setting(
        None,
        doc="What each text that is found becomes; a text that is not among them is rejected.",
        example={"ON": "1", "OFF": "0"},
        min_length=1,
    )
    type: ColumnKind | None = setting(
        None,
        doc="What it must be or is made: `number`, `integer`, `boolean`, `text`, `time`, `json` or `id` (16 bytes, a UUID).",
        example="number",
        default_text="as it comes",
    )
    from_unit: NonEmptyText | None = setting(
        None, doc="The unit that a number has there, such as degF, mmHg or kWh.", example="degF"
    )
    to_unit: NonEmptyText | None = setting(
        None, doc="The unit that the number is converted to, such as degC, hPa or J.", example="degC"
    )
    scale: Finite = setting(1.0, doc="A number is multiplied by this.", example=0.1)
    offset: Finite = setting(0.0, doc="This is added to a number after that.", example=-40.0)
    format: NonEmptyText = setting(
        "rfc3339",
        doc="How a time is written: `rfc3339`, `unix` (seconds), `unix_ms`, `unix_us`, `unix_ns`, `senml`, "
        "or a pattern of strptime, with % in it.",
        example="unix_ms",
    )
    zone: NonEmptyText | None = setting(
        None,
        doc="IANA name of the zone of a time that says none.",
        example="Europe/Berlin",
        default_text="a time that says no zone is rejected",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        raise_for_issues(self, _issues(self))
        return self


def has_conversion(source: SourceSettings) -> bool:
    """Return True when the result is a number, because units, scale or offset apply only to numbers."""
    return source.from_unit is not None or (source.scale, source.offset) != (1.0, 0.0)


def _issues(source: SourceSettings) -> Iterator[ValidationIssue]:
    given = [name for name in _ORIGIN_KEYS if getattr(source, name) not in {None, False}]
    if len(given) != 1:
        found = "none" if not given else " and ".join(given)
        yield (), f"a source needs exactly one of {', '.join(_ORIGIN_KEYS)}: it has {found}"
    if (source.from_unit is None) != (source.to_unit is None):
        yield (), "from_unit and to_unit need each other"
    elif source.from_unit is not None and source.to_unit is not None:
        yield from _unit_issues(source.from_unit, source.to_unit)
    if source.zone is not None:
        yield from _zone_issues(source.zone)
    if source.scale == 0:
        yield ("scale",), "must not be 0"
    if source.format not in TIME_FORMATS and "%" not in source.format:
        near = nearest_name(source.format, (*TIME_FORMATS, "unix_s"))
        yield (
            ("format",),
            f"must be {', '.join(TIME_FORMATS)} or a pattern of strptime such as %d.%m.%Y %H:%M:%S"
            + (f": did you mean {near.removesuffix('_s')}?" if near else ""),
        )


def _unit_issues(from_unit: str, to_unit: str) -> Iterator[ValidationIssue]:
    from sensorsync.messages.mapping.units import unit_conversion  # noqa: PLC0415 - few configurations have one

    try:
        unit_conversion(from_unit, to_unit)
    except ValueError as error:
        yield ("from_unit",), str(error)


def _zone_issues(zone: str) -> Iterator[ValidationIssue]:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield ("zone",), "must be the IANA name of a zone, such as Europe/Berlin or UTC"


def _expand_shorthand(key: str) -> BeforeValidator:
    """Return a validator that turns a plain text into a source with this one key."""

    def long(value: Any) -> Any:
        value = _scalar_to_text(value)
        return {key: value} if isinstance(value, str) else value

    return BeforeValidator(long, json_schema_input_type=str | SourceSettings)


PathSource = Annotated[SourceSettings, _expand_shorthand("path")]
"""A source. A plain text is its `path`."""
ConstantSource = Annotated[SourceSettings, _expand_shorthand("constant")]
"""A source. A plain text is its `constant`."""
