"""Source -> one closure that has only the steps which are configured: take, look up, make the type, convert."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from sensorsync.messages.mapping import units
from sensorsync.messages.mapping.conversions import Convert, converter, json_text, scaled
from sensorsync.messages.mapping.expressions import Expression, ExpressionError
from sensorsync.messages.mapping.formats.value import written
from sensorsync.messages.mapping.message import NO_MESSAGE, Get, Message
from sensorsync.messages.mapping.model import MappingError, Source
from sensorsync.messages.mapping.times import time_of
from sensorsync.messages.mapping.topics import Template, TopicPattern
from sensorsync.messages.reading import fields
from sensorsync.messages.reading.model import Fault
from sensorsync.messages.reading.rows import Kind


class _At(NamedTuple):
    """For what is wrong with a source, and for the faults of its values."""

    key: str
    reason: str
    label: str


_PLACES = ("path", "root", "topic", "constant", "property", "content_type", "field")


def expression(text: str, key: str) -> Expression:
    """One expression of a mapping. Raises MappingError."""
    try:
        return Expression(text)
    except ExpressionError as error:
        raise MappingError(key, str(error), error.column) from None


class Sources:
    """Compiles the sources of one mapping.

    `whole`: the element is always the document itself. `bare`: and that is a bare value. `arrival`: missing_ts is arrival.
    """

    def __init__(self, pattern: TopicPattern, *, whole: bool, bare: bool, arrival: bool) -> None:
        self._names = pattern.names
        self._whole = whole
        self._bare = bare
        self._arrival = arrival
        self.templates: list[Template] = []
        """The order of `Message.texts`."""

    def compile(self, source: Source, key: str, reason: str, kinds: tuple[Kind, ...], *, label: str = "") -> Get:
        """The closure for `source`, which stands at `key`; `reason` and `label` (the same when empty) are for its faults.

        Raises MappingError when the source cannot work, and for a type that is not among `kinds`.
        """
        at = _At(key, reason, label or reason)
        kind = _kind(source, key, kinds)
        get = self._take(source, at)
        if source.values is not None:
            get = _looked_up(get, source.values, at)
        elif kind == "text" and self._bare and "@" in {source.path, source.root}:
            get = _as_written(get)
        if kind == "time":
            get = self._timed(get, source, at)
        elif kind is not None and kind != "id":  # what an id is made of, only the row knows
            get = _converted(get, converter(kind, at.reason, at.label))
        scale, offset = _conversion(source, key)
        if (scale, offset) != (Decimal(1), Decimal(0)):
            get = _converted(get, scaled(scale, offset, at.reason, at.label))
        return _fixed(get, key) if source.constant is not None else get

    # -- where it comes from -----------------------------------------------------------------------------------------------

    def _take(self, source: Source, at: _At) -> Get:
        key = at.key
        given = [place for place in _PLACES if getattr(source, place) not in {None, False}]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise MappingError(key, f"exactly one of {', '.join(_PLACES)} says where it comes from, not {found}")
        if source.path is not None:
            return _path(expression(source.path, f"{key}.path"))
        if source.root is not None:
            root = expression(source.root, f"{key}.root")
            return _path(root) if self._whole else _root(root)
        if source.topic is not None:
            return self._template(source.topic, key)
        if source.constant is not None:
            constant = source.constant
            if any("\ud800" <= character <= "\udfff" for character in constant):
                raise MappingError(f"{key}.constant", "half of a surrogate pair is no text")
            return lambda _, __: constant
        if source.property is not None:
            return _property(source.property, at)
        if source.content_type:
            return lambda _, message: (_properties(message, at) or {}).get("content_type")
        raise MappingError(f"{key}.field", "a field of the mapping itself is for the columns of an own table")

    def _template(self, text: str, key: str) -> Get:
        try:
            template = Template(text, self._names)
        except ValueError as error:
            raise MappingError(f"{key}.topic", str(error)) from None
        place = len(self.templates)
        self.templates.append(template)
        return lambda _, message: message.texts[place]

    # -- times -------------------------------------------------------------------------------------------------------------

    def _timed(self, get: Get, source: Source, at: _At) -> Get:
        try:
            read = time_of(source.format, source.zone, arrival=self._arrival)
        except ValueError as error:
            place = "format" if source.zone is None or "format" in str(error) else "zone"
            raise MappingError(f"{at.key}.{place}", str(error)) from None
        if source.format == "rfc3339" and source.zone is None and at.reason == "ts":
            return _converted(get, fields.utc)  # what most mappings have, and the decoder of readings does

        reason, label = at.reason, at.label

        def timed(element: Any, message: Message) -> str | None:
            value = get(element, message)
            if value is None:
                return None
            try:
                return read(value, message.received_at)
            except Fault as fault:
                raise Fault(reason, f"{label}: {fault.rejected.message}") from None

        return timed


# -- the steps -------------------------------------------------------------------------------------------------------------


def _kind(source: Source, key: str, kinds: tuple[Kind, ...]) -> Kind | None:
    """The type, which a conversion says without a word."""
    kind = source.type
    converts = bool(source.from_unit or source.to_unit) or (source.scale, source.offset) != (1.0, 0.0)
    if kind is None:
        kind = "number" if converts else "time" if kinds == ("time",) else None
    if kind is not None and kind not in kinds:
        if source.type is None:
            raise MappingError(key, "units, scale and offset are for numbers, and this is none")
        raise MappingError(f"{key}.type", f"{kind} is not possible here, only {', '.join(kinds)}")
    if converts and kind != "number":
        raise MappingError(f"{key}.type", f"units, scale and offset make it a number, not {kind}")
    if kind != "time" and (source.format != "rfc3339" or source.zone is not None):
        raise MappingError(key, "format and zone are for times: give it type: time")
    return kind


def _fixed(get: Get, key: str) -> Get:
    """A constant is converted once."""
    try:
        value = get(None, NO_MESSAGE)
    except Fault as fault:
        raise MappingError(key, fault.rejected.message) from None
    return lambda _, __: value


def _path(path: Expression) -> Get:
    name, search = path.name, path.search
    if name is not None:
        return lambda element, _: element.get(name) if type(element) is dict else None
    return lambda element, _: search(element)


def _root(root: Expression) -> Get:
    """Computed once for a message: else 10,000 elements would each pay for the whole document."""
    text, search = root.text, root.search
    if root.plain:
        return lambda _, message: search(message.document)

    def get(_: Any, message: Message) -> Any:
        memo = message.memo
        if text not in memo:
            try:
                memo[text] = search(message.document)
            except Fault as fault:
                memo[text] = fault
        found = memo[text]
        if type(found) is Fault:
            raise found.with_traceback(None)
        return found

    return get


def _properties(message: Message, at: _At) -> Mapping[str, Any] | None:
    properties = message.properties
    if properties is not None and "left_out" in properties:
        raise Fault(at.reason, f"{at.label} is not known: {properties['left_out']}")
    return properties


def _property(name: str, at: _At) -> Get:
    def get(_: Any, message: Message) -> str | None:
        properties = _properties(message, at)
        if properties is not None:
            for key, value in properties.get("user_properties", ()):
                if key == name:
                    return str(value)
        return None

    return get


def _as_written(get: Get) -> Get:
    """A bare number as the text that it was, with the zeros at its ends."""

    def text(element: Any, message: Message) -> Any:
        value = get(element, message)
        return value if type(value) is str else written(message.payload)

    return text


def _looked_up(get: Get, values: Mapping[str, str], at: _At) -> Get:
    table = dict(values)
    _, reason, label = at

    def look_up(element: Any, message: Message) -> str | None:
        value = get(element, message)
        if value is None:
            return table.get("null")
        if type(value) in (dict, list):
            raise Fault(reason, f"{label} is {fields.kind(value)}, which no table of values has")
        text = value if type(value) is str else json_text(value)
        found = table.get(text)
        if found is None:
            raise Fault(reason, f"{label} {text[:40]!r} is not among the values of the mapping")
        return found

    return look_up


def _conversion(source: Source, key: str) -> tuple[Decimal, Decimal]:
    """Scale and offset, those of the units first."""
    if not (math.isfinite(source.scale) and math.isfinite(source.offset) and source.scale != 0):
        raise MappingError(f"{key}.scale", "scale and offset are finite numbers, and scale is not 0")
    scale, offset = Decimal(repr(source.scale)), Decimal(repr(source.offset))
    if source.from_unit is None and source.to_unit is None:
        return scale, offset
    if source.from_unit is None or source.to_unit is None:
        raise MappingError(key, "from_unit and to_unit are given both or not at all")
    try:
        factor, shift = units.conversion(source.from_unit, source.to_unit)
    except ValueError as error:
        raise MappingError(f"{key}.from_unit", str(error)) from None
    return factor * scale, shift * scale + offset


def _converted(get: Get, convert: Convert) -> Get:
    def converted(element: Any, message: Message) -> Any:
        value = get(element, message)
        return None if value is None else convert(value)

    return converted
