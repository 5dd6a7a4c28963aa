"""Element -> readings: rows of `sensor_readings`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from sensorsync.messages.mapping.identity import Identified, Identity
from sensorsync.messages.mapping.kept import Kept
from sensorsync.messages.mapping.message import NO_MESSAGE, Get, Message
from sensorsync.messages.mapping.model import MappingError, MappingSpec, ReadingSpec
from sensorsync.messages.mapping.sources import Sources
from sensorsync.messages.reading import fields
from sensorsync.messages.reading.model import MAX_UNIT, MAX_VALUE_TEXT, Fault, Reading, Rejected
from sensorsync.messages.reading.rows import Kind

_VALUE_KINDS: tuple[Kind, ...] = ("number", "integer", "boolean", "text", "time", "json")
_UNIT_KINDS: tuple[Kind, ...] = ("text",)


@dataclass(frozen=True, slots=True)
class _Reading:
    metric: Get
    value: Get
    unit: Get | None
    optional: bool
    key: str
    """Its place in the mapping."""
    name: str | None
    """Its metric, where that is the same in all messages."""


class Readings:
    """Makes the readings of elements."""

    def __init__(self, spec: MappingSpec, sources: Sources, identity: Identity, kept: Kept) -> None:
        self._identity = identity
        self._kept = kept
        self._readings = [
            self._compiled(reading, f"readings[{place}]", sources) for place, reading in enumerate(spec.readings)
        ]
        constants = [reading.metric.constant for reading in spec.readings]
        for place, metric in enumerate(constants):
            if metric is not None and metric in constants[:place]:
                raise MappingError(f"readings[{place}].metric", f"two readings are {metric!r}: they would be one row")
        self._may_meet = len(constants) > 1 and None in constants
        self._first = self._readings[0]

    def _compiled(self, spec: ReadingSpec, key: str, sources: Sources) -> _Reading:
        names = self._identity.names
        unit = None
        if spec.unit is not None:
            unit = sources.compile(spec.unit, f"{key}.unit", "unit", _UNIT_KINDS)
            if spec.unit.constant is not None:
                _check_unit(unit(None, NO_MESSAGE), f"{key}.unit")
        return _Reading(
            metric=names.compile(sources, spec.metric, f"{key}.metric", "metric"),
            value=sources.compile(spec.value, f"{key}.value", "value", _VALUE_KINDS),
            unit=unit,
            optional=spec.optional,
            key=key,
            name=spec.metric.constant,
        )

    def one(self, element: Any, message: Message) -> Reading | None:
        """The first reading, under the message's own event_id; None: it is optional and not there. Raises Fault."""
        reading = self._first
        value = reading.value(element, message)
        if value is None and reading.optional:
            return None
        return self._row(reading, value, self._identity.of(element, message), element, message)

    def several(self, element: Any, index: int, message: Message) -> Iterator[Reading | Rejected]:
        """All readings of one of several elements, or of the only one; what is optional and not there is passed over."""
        identified: Identified | None = None
        metrics: set[str] = set()
        for reading in self._readings:
            try:
                value = reading.value(element, message)
                if value is None and reading.optional:
                    continue
                identified = identified or self._identity.of(element, message)
                row = self._row(reading, value, identified, element, message)
                if self._may_meet:
                    _meet(row.metric, metrics)
                part = Reading(fields.part_id(row.event_id, f"{index}/{row.metric}"), *row[1:])
            except Fault as fault:
                label = reading.name or self._label(reading, fault.rejected, element, message)
                yield Rejected(fault.rejected.reason, f"{label}: {fault.rejected.message}")
            else:
                yield part

    def _label(self, reading: _Reading, why: Rejected, element: Any, message: Message) -> str:
        """What names a reading in its fault: its metric, else its place in the mapping."""
        if why.reason == "metric":
            return reading.key
        try:
            return self._identity.names.checked("metric", reading.metric(element, message))
        except Fault:
            return reading.key

    def _row(self, reading: _Reading, value: Any, identified: Identified, element: Any, message: Message) -> Reading:
        device_id, event_id, ts = identified
        names = self._identity.names
        metric = reading.metric(element, message)
        if type(metric) is not str or metric not in names.known:
            metric = names.checked("metric", metric)
        value_text = None
        if type(value) is not float or not isfinite(value):
            value, value_text = _value_of(value)
        unit = None if reading.unit is None else reading.unit(element, message)
        if unit is not None:
            unit = fields.checked_text("unit", unit, MAX_UNIT)
        payload = self._kept.text(element, message)
        row = (event_id, device_id, metric, ts, value, value_text, unit, message.topic, message.received_at, payload)
        return tuple.__new__(Reading, row)  # half the time of Reading(...)


def _meet(metric: str, metrics: set[str]) -> None:
    if metric in metrics:
        raise Fault("metric", f"another reading of the same element is {metric!r}, too")
    metrics.add(metric)


def _value_of(value: Any) -> tuple[float | None, str | None]:
    """(value, value_text)."""
    if isinstance(value, float | int):  # a boolean is an int
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if not isfinite(number):
            raise Fault("value", "value is beyond the range of a double")
        return number, None
    if type(value) is str:
        return None, fields.checked_text("value", value, MAX_VALUE_TEXT)
    if value is None:
        raise Fault("value", "value is missing or null")
    raise Fault("value", f"value is {fields.kind(value)}; a number, a boolean or a string is expected")


def _check_unit(unit: object, key: str) -> None:
    try:
        fields.checked_text("unit", unit, MAX_UNIT)
    except Fault as fault:
        raise MappingError(key, fault.rejected.message) from None
