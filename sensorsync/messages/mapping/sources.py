"""The compiler of sources. Each becomes one closure with only the configured steps: take, look up, make the type, convert."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from sensorsync.messages.mapping import units
from sensorsync.messages.mapping.conversions import Convert, json_text, linear_converter, type_converter
from sensorsync.messages.mapping.expressions import Expression, ExpressionError
from sensorsync.messages.mapping.formats.value import payload_text
from sensorsync.messages.mapping.message import EMPTY_MESSAGE, Message, ValueGetter
from sensorsync.messages.mapping.model import MappingError, Source
from sensorsync.messages.mapping.times import time_parser
from sensorsync.messages.mapping.topics import TopicPattern, TopicTemplate
from sensorsync.messages.reading import fields
from sensorsync.messages.reading.model import DecodeError
from sensorsync.messages.reading.rows import ColumnKind


class _SourceContext(NamedTuple):
    """The names of a source in errors: its place, and the reason and label of rejections of its values."""

    key: str
    reason: str
    label: str


_ORIGIN_KEYS = ("path", "root", "topic", "constant", "property", "content_type", "field")


def compile_expression(text: str, key: str) -> Expression:
    """Compile one expression of a mapping. Raises MappingError."""
    try:
        return Expression(text)
    except ExpressionError as error:
        raise MappingError(key, str(error), error.column) from None


class SourceCompiler:
    """A compiler of the sources of one mapping.

    `element_is_document` is True when the element is always the document itself, and `document_is_bare_value` when this is a bare
    value. `uses_arrival_time` is True when missing_ts is arrival.
    """

    def __init__(
        self, pattern: TopicPattern, *, element_is_document: bool, document_is_bare_value: bool, uses_arrival_time: bool
    ) -> None:
        self._names = pattern.names
        self._element_is_document = element_is_document
        self._document_is_bare_value = document_is_bare_value
        self._uses_arrival_time = uses_arrival_time
        self.templates: list[TopicTemplate] = []
        """Templates in the order of `Message.template_texts`."""

    def compile(
        self, source: Source, key: str, reason: str, kinds: tuple[ColumnKind, ...], *, label: str = ""
    ) -> ValueGetter:
        """Return the closure for `source`, whose place in the mapping is `key`.

        `reason` and `label` (the same when empty) are for rejections of its values. Raises MappingError when the source cannot work,
        and for a type that is not among `kinds`.
        """
        at = _SourceContext(key, reason, label or reason)
        kind = _result_kind(source, key, kinds)
        get = self._origin_getter(source, at)
        if source.values is not None:
            get = _lookup_getter(get, source.values, at)
        elif kind == "text" and self._document_is_bare_value and "@" in {source.path, source.root}:
            get = _payload_text_getter(get)
        if kind == "time":
            get = self._timed(get, source, at)
        elif kind is not None and kind != "id":  # an id is made with the device id, which only the row has
            get = _converting_getter(get, type_converter(kind, at.reason, at.label))
        scale, offset = _scale_and_offset(source, key)
        if (scale, offset) != (Decimal(1), Decimal(0)):
            get = _converting_getter(get, linear_converter(scale, offset, at.reason, at.label))
        return _constant_getter(get, key) if source.constant is not None else get

    # -- where it comes from -----------------------------------------------------------------------------------------------

    def _origin_getter(self, source: Source, at: _SourceContext) -> ValueGetter:
        key = at.key
        given = [place for place in _ORIGIN_KEYS if getattr(source, place) not in {None, False}]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise MappingError(key, f"exactly one of {', '.join(_ORIGIN_KEYS)} says where it comes from, not {found}")
        if source.path is not None:
            return _path_getter(compile_expression(source.path, f"{key}.path"))
        if source.root is not None:
            root = compile_expression(source.root, f"{key}.root")
            return _path_getter(root) if self._element_is_document else _root_getter(root)
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

    def _template(self, text: str, key: str) -> ValueGetter:
        try:
            template = TopicTemplate(text, self._names)
        except ValueError as error:
            raise MappingError(f"{key}.topic", str(error)) from None
        place = len(self.templates)
        self.templates.append(template)
        return lambda _, message: message.template_texts[place]

    # -- times -------------------------------------------------------------------------------------------------------------

    def _timed(self, get: ValueGetter, source: Source, at: _SourceContext) -> ValueGetter:
        try:
            read = time_parser(source.format, source.zone, relative_to_arrival=self._uses_arrival_time)
        except ValueError as error:
            place = "format" if source.zone is None or "format" in str(error) else "zone"
            raise MappingError(f"{at.key}.{place}", str(error)) from None
        if source.format == "rfc3339" and source.zone is None and at.reason == "ts":
            # Most mappings have this format, and the decoder of readings uses the same function.
            return _converting_getter(get, fields.rfc3339_to_utc)

        reason, label = at.reason, at.label

        def timed(element: Any, message: Message) -> str | None:
            value = get(element, message)
            if value is None:
                return None
            try:
                return read(value, message.received_at)
            except DecodeError as error:
                raise DecodeError(reason, f"{label}: {error.rejection.message}") from None

        return timed


# -- the steps -------------------------------------------------------------------------------------------------------------


def _result_kind(source: Source, key: str, kinds: tuple[ColumnKind, ...]) -> ColumnKind | None:
    """Return the type of a source. A conversion implies it. Raises MappingError."""
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


def _constant_getter(get: ValueGetter, key: str) -> ValueGetter:
    """Return a closure for a constant, which is converted only once."""
    try:
        value = get(None, EMPTY_MESSAGE)
    except DecodeError as error:
        raise MappingError(key, error.rejection.message) from None
    return lambda _, __: value


def _path_getter(path: Expression) -> ValueGetter:
    name, search = path.member_name, path.search
    if name is not None:
        return lambda element, _: element.get(name) if type(element) is dict else None
    return lambda element, _: search(element)


def _root_getter(root: Expression) -> ValueGetter:
    """Return a closure that computes a value of the document once for a message.

    Otherwise the whole document would be searched again for each of 10,000 elements.
    """
    text, search = root.text, root.search
    if root.is_plain_path:
        return lambda _, message: search(message.document)

    def get(_: Any, message: Message) -> Any:
        cache = message.cache
        if text not in cache:
            try:
                cache[text] = search(message.document)
            except DecodeError as error:
                cache[text] = error
        found = cache[text]
        if type(found) is DecodeError:
            raise found.with_traceback(None)
        return found

    return get


def _properties(message: Message, at: _SourceContext) -> Mapping[str, Any] | None:
    properties = message.properties
    if properties is not None and "left_out" in properties:
        raise DecodeError(at.reason, f"{at.label} is not known: {properties['left_out']}")
    return properties


def _property(name: str, at: _SourceContext) -> ValueGetter:
    def get(_: Any, message: Message) -> str | None:
        properties = _properties(message, at)
        if properties is not None:
            for key, value in properties.get("user_properties", ()):
                if key == name:
                    return str(value)
        return None

    return get


def _payload_text_getter(get: ValueGetter) -> ValueGetter:
    """Return a closure that gives a bare number as its original text, with the zeros at its ends."""

    def text(element: Any, message: Message) -> Any:
        value = get(element, message)
        return value if type(value) is str else payload_text(message.payload)

    return text


def _lookup_getter(get: ValueGetter, values: Mapping[str, str], at: _SourceContext) -> ValueGetter:
    table = dict(values)
    _, reason, label = at

    def look_up(element: Any, message: Message) -> str | None:
        value = get(element, message)
        if value is None:
            return table.get("null")
        if type(value) in (dict, list):
            raise DecodeError(reason, f"{label} is {fields.json_type_name(value)}, which no table of values has")
        text = value if type(value) is str else json_text(value)
        found = table.get(text)
        if found is None:
            raise DecodeError(reason, f"{label} {text[:40]!r} is not among the values of the mapping")
        return found

    return look_up


def _scale_and_offset(source: Source, key: str) -> tuple[Decimal, Decimal]:
    """Return scale and offset. Those of the units are applied first. Raises MappingError."""
    if not (math.isfinite(source.scale) and math.isfinite(source.offset) and source.scale != 0):
        raise MappingError(f"{key}.scale", "scale and offset are finite numbers, and scale is not 0")
    scale, offset = Decimal(repr(source.scale)), Decimal(repr(source.offset))
    if source.from_unit is None and source.to_unit is None:
        return scale, offset
    if source.from_unit is None or source.to_unit is None:
        raise MappingError(key, "from_unit and to_unit are given both or not at all")
    try:
        factor, shift = units.unit_conversion(source.from_unit, source.to_unit)
    except ValueError as error:
        raise MappingError(f"{key}.from_unit", str(error)) from None
    return factor * scale, shift * scale + offset


def _converting_getter(get: ValueGetter, convert: Convert) -> ValueGetter:
    def converted(element: Any, message: Message) -> Any:
        value = get(element, message)
        return None if value is None else convert(value)

    return converted
