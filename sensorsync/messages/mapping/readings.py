"""The builder of readings, which are rows of `sensor_readings`, from elements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from sensorsync.messages.mapping.identity import Identity, IdentityValues
from sensorsync.messages.mapping.message import EMPTY_MESSAGE, Message, ValueGetter
from sensorsync.messages.mapping.model import MappingError, MappingSpec, ReadingSpec
from sensorsync.messages.mapping.payload_column import PayloadColumn
from sensorsync.messages.mapping.sources import SourceCompiler
from sensorsync.messages.reading import fields
from sensorsync.messages.reading.model import MAX_UNIT, MAX_VALUE_TEXT, DecodeError, Reading, Rejected
from sensorsync.messages.reading.rows import ColumnKind

_VALUE_KINDS: tuple[ColumnKind, ...] = ("number", "integer", "boolean", "text", "time", "json")
_UNIT_KINDS: tuple[ColumnKind, ...] = ("text",)


@dataclass(frozen=True, slots=True)
class _CompiledReading:
    metric: ValueGetter
    value: ValueGetter
    unit: ValueGetter | None
    optional: bool
    key: str
    """Place of the reading in the mapping."""
    constant_metric: str | None
    """Its metric when it is the same in all messages. Else None."""


class ReadingBuilder:
    """A builder of the readings of elements."""

    def __init__(
        self, spec: MappingSpec, sources: SourceCompiler, identity: Identity, payload_column: PayloadColumn
    ) -> None:
        self._identity = identity
        self._payload_column = payload_column
        self._readings = [
            self._compile(reading, f"readings[{place}]", sources) for place, reading in enumerate(spec.readings)
        ]
        constants = [reading.metric.constant for reading in spec.readings]
        for place, metric in enumerate(constants):
            if metric is not None and metric in constants[:place]:
                raise MappingError(f"readings[{place}].metric", f"two readings are {metric!r}: they would be one row")
        self._metrics_may_repeat = len(constants) > 1 and None in constants
        self._first = self._readings[0]

    def _compile(self, spec: ReadingSpec, key: str, sources: SourceCompiler) -> _CompiledReading:
        names = self._identity.names
        unit = None
        if spec.unit is not None:
            unit = sources.compile(spec.unit, f"{key}.unit", "unit", _UNIT_KINDS)
            if spec.unit.constant is not None:
                _check_unit(unit(None, EMPTY_MESSAGE), f"{key}.unit")
        return _CompiledReading(
            metric=names.compile(sources, spec.metric, f"{key}.metric", "metric"),
            value=sources.compile(spec.value, f"{key}.value", "value", _VALUE_KINDS),
            unit=unit,
            optional=spec.optional,
            key=key,
            constant_metric=spec.metric.constant,
        )

    def single_reading(self, element: Any, message: Message) -> Reading | None:
        """Return the first reading with the message's own event_id, or None when it is optional and absent. Raises DecodeError."""
        reading = self._first
        value = reading.value(element, message)
        if value is None and reading.optional:
            return None
        return self._build_reading(reading, value, self._identity.resolve(element, message), element, message)

    def element_readings(self, element: Any, index: int, message: Message) -> Iterator[Reading | Rejected]:
        """Yield all readings of an element, or their rejections. `index` is its place in the message.

        Optional readings that are absent are skipped.
        """
        identified: IdentityValues | None = None
        metrics: set[str] = set()
        for reading in self._readings:
            try:
                value = reading.value(element, message)
                if value is None and reading.optional:
                    continue
                identified = identified or self._identity.resolve(element, message)
                row = self._build_reading(reading, value, identified, element, message)
                if self._metrics_may_repeat:
                    _validate_unique_metric(row.metric, metrics)
                part = Reading(fields.row_event_id(row.event_id, f"{index}/{row.metric}"), *row[1:])
            except DecodeError as error:
                label = reading.constant_metric or self._label(reading, error.rejection, element, message)
                yield Rejected(error.rejection.reason, f"{label}: {error.rejection.message}")
            else:
                yield part

    def _label(self, reading: _CompiledReading, why: Rejected, element: Any, message: Message) -> str:
        """Return the name of a reading for its rejection. It is the metric, else the place in the mapping."""
        if why.reason == "metric":
            return reading.key
        try:
            return self._identity.names.validate("metric", reading.metric(element, message))
        except DecodeError:
            return reading.key

    def _build_reading(
        self, reading: _CompiledReading, value: Any, identified: IdentityValues, element: Any, message: Message
    ) -> Reading:
        device_id, event_id, ts = identified
        names = self._identity.names
        metric = reading.metric(element, message)
        if type(metric) is not str or metric not in names.valid_names:
            metric = names.validate("metric", metric)
        value_text = None
        if type(value) is not float or not isfinite(value):
            value, value_text = _value_columns(value)
        unit = None if reading.unit is None else reading.unit(element, message)
        if unit is not None:
            unit = fields.checked_text("unit", unit, MAX_UNIT)
        payload = self._payload_column.json_text(element, message)
        row = (event_id, device_id, metric, ts, value, value_text, unit, message.topic, message.received_at, payload)
        return tuple.__new__(Reading, row)  # half the time of Reading(...)


def _validate_unique_metric(metric: str, metrics: set[str]) -> None:
    if metric in metrics:
        raise DecodeError("metric", f"another reading of the same element is {metric!r}, too")
    metrics.add(metric)


def _value_columns(value: Any) -> tuple[float | None, str | None]:
    """Return (value, value_text), one of which is None. Raises DecodeError."""
    if isinstance(value, float | int):  # a boolean is an int
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if not isfinite(number):
            raise DecodeError("value", "value is beyond the range of a double")
        return number, None
    if type(value) is str:
        return None, fields.checked_text("value", value, MAX_VALUE_TEXT)
    if value is None:
        raise DecodeError("value", "value is missing or null")
    raise DecodeError("value", f"value is {fields.json_type_name(value)}; a number, a boolean or a string is expected")


def _check_unit(unit: object, key: str) -> None:
    try:
        fields.checked_text("unit", unit, MAX_UNIT)
    except DecodeError as error:
        raise MappingError(key, error.rejection.message) from None
