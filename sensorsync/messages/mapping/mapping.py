"""One entry of `mappings`, built once. It selects messages, takes their elements, and makes rows of these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sensorsync.messages.mapping.expressions import Expression, is_true
from sensorsync.messages.mapping.formats import Format, create_format
from sensorsync.messages.mapping.identity import Identity, NameValidator
from sensorsync.messages.mapping.message import Message
from sensorsync.messages.mapping.model import MAX_PAYLOAD_COLUMN_BYTES, MAX_ROWS, MappingError, MappingSpec
from sensorsync.messages.mapping.payload_column import PayloadColumn
from sensorsync.messages.mapping.readings import ReadingBuilder
from sensorsync.messages.mapping.sources import SourceCompiler, compile_expression
from sensorsync.messages.mapping.tables import OwnRows
from sensorsync.messages.mapping.topics import TopicPattern
from sensorsync.messages.reading import fields
from sensorsync.messages.reading.model import DecodeError, Reading, Rejected
from sensorsync.messages.reading.rows import FanOut, Row, TableRow

_UNCOUNTED_CHARACTERS = 128
"""Characters of a short text. Texts up to this length do not count, because every column of every row may have them."""


class Mapping:
    """A mapping that makes rows of messages. It is thread-safe."""

    def __init__(self, spec: MappingSpec, *, max_age: float | None = None, shared_format: Format | None = None) -> None:
        """Build everything that does not need a message. It uses no file and no network. Raises MappingError.

        `max_age` is in seconds. Measurements that are older on arrival are rejected. `shared_format` is the format of another mapping
        with the same specification.
        """
        self.spec = spec
        self.name = spec.name
        self.format = shared_format or create_format(spec.format)
        try:
            self.pattern = TopicPattern(spec.topic)
        except ValueError as error:
            raise MappingError("topic", str(error)) from None
        self._when = _optional_expression(spec.when, "when")
        self._each = _optional_expression(spec.each, "each")
        self._where = _optional_expression(spec.where, "where")
        element_is_document = spec.each is None and not self.format.has_records
        sources = SourceCompiler(
            self.pattern,
            element_is_document=element_is_document,
            document_is_bare_value=element_is_document and spec.format.name == "value",
            uses_arrival_time=spec.missing_ts == "arrival",
        )
        identity = Identity(spec, sources, NameValidator(), max_age)
        payload_column = PayloadColumn(
            spec,
            element_is_document=element_is_document,
            is_computed=self._each is not None and not self._each.is_plain_path,
        )
        self._own = self._readings = None
        if spec.table is not None:
            if spec.readings:
                raise MappingError("table", "a mapping has readings or a table of its own, not both")
            self._own = OwnRows(spec, spec.table, sources, identity, payload_column)
        else:
            _check_identity(spec, identity)
            self._readings = ReadingBuilder(spec, sources, identity, payload_column)
        self._gives_one_row = element_is_document and (
            spec.table is not None or (spec.single and len(spec.readings) == 1)
        )
        self._templates = sources.templates

    def match_topic(self, topic: str) -> tuple[str, ...] | None:
        """Return the texts of the sources with `topic` for this topic, or None when the mapping is not for it."""
        levels = self.pattern.match(topic)
        return None if levels is None else tuple([template.render(levels) for template in self._templates])

    def condition_holds(self, document: Any) -> bool:
        """Return True when `when` is true or is not set. Raises DecodeError when it fails."""
        return self._when is None or is_true(self._when.search(document))

    @property
    def has_condition(self) -> bool:
        """True when there is a `when`."""
        return self._when is not None

    def rows(self, message: Message) -> Row | FanOut | Rejected:
        """Return the rows of a message that the mapping takes, or its rejection. Raises nothing."""
        try:
            if self._gives_one_row:
                return self._single_row(message)
            return self._fan_out(message)
        except DecodeError as error:
            return self.prefix_rejection(error.rejection)

    def prefix_rejection(self, rejection: Rejected) -> Rejected:
        """Return the rejection with the mapping's name before its sentence."""
        return Rejected(rejection.reason, f"{self.name}: {rejection.message}")

    def _single_row(self, message: Message) -> Row:
        element = message.document
        row: Row | None = None
        if self._where is None or is_true(self._where.search(element)):
            if self._readings is not None:
                row = self._readings.single_reading(element, message)
            elif self._own is not None:
                row = self._own.row(element, None, message)
        if row is None:
            raise DecodeError("empty", "the message gives no reading")
        return row

    def _fan_out(self, message: Message) -> FanOut:
        elements = self._elements(message.document)
        if len(elements) > MAX_ROWS:
            raise DecodeError("too_large", f"the message has {len(elements)} elements; at most {MAX_ROWS} are taken")
        parts: list[Row | Rejected] = []
        size = 0
        for part in self._row_results(elements, message):
            parts.append(part if not isinstance(part, Rejected) else self.prefix_rejection(part))
            size += _payload_size(part)
            if len(parts) > MAX_ROWS:
                raise DecodeError("too_large", f"the message gives more than {MAX_ROWS} rows")
            if size > MAX_PAYLOAD_COLUMN_BYTES:
                raise DecodeError(
                    "too_large",
                    f"the rows of the message keep more than {MAX_PAYLOAD_COLUMN_BYTES} bytes of it (see keep: element, nothing)",
                )
        if not parts:
            raise DecodeError("empty", "the message gives no reading")
        return FanOut(tuple(parts))

    def _elements(self, document: Any) -> list[Any]:
        if self._each is None:
            return document if self.format.has_records else [document]
        found = self._each.search(document)
        if type(found) is list:
            return found
        if type(found) is dict:
            return [{"key": key, "value": value} for key, value in found.items()]
        if found is None:
            return []
        raise DecodeError(
            "mapping", f"each: {self.spec.each} is {fields.json_type_name(found)}, not an array or an object"
        )

    def _row_results(self, elements: list[Any], message: Message) -> Iterator[Row | Rejected]:
        """Yield the rows of the elements, or their rejections.

        The index of an element is its position in the message, so that `where` changes no id.
        """
        where = None if self._where is None else self._where.search
        for index, element in enumerate(elements):
            try:
                if where is not None and not is_true(where(element)):
                    continue
                if self._own is not None:
                    yield self._own.row(element, index, message)
            except DecodeError as error:
                yield error.rejection
            else:
                if self._readings is not None:
                    yield from self._readings.element_readings(element, index, message)


def _optional_expression(text: str | None, key: str) -> Expression | None:
    return None if text is None else compile_expression(text, key)


def _check_identity(spec: MappingSpec, identity: Identity) -> None:
    """Raise MappingError when the mapping would park every message."""
    if not spec.readings:
        raise MappingError("readings", "a mapping has at least one reading, or a table of its own")
    if not identity.has_device_id:
        raise MappingError(
            "device_id", "it is missing: say where the device id is, such as device_id: {topic: '{device}'}"
        )
    if not identity.has_event_id:
        raise MappingError(
            "event_id", "it is missing: say where it is, or missing_id: payload (identical messages are one)"
        )
    if not identity.can_have_ts:
        raise MappingError("ts", "it is missing: say where the time is, or missing_ts: arrival or epoch")


def _payload_size(part: Row | Rejected) -> int:
    """Return the size of a row's long texts in bytes. It is exact for ASCII, and a lower bound for other texts."""
    if isinstance(part, Reading):
        return len(part.payload)
    if isinstance(part, TableRow):
        return sum(len(value) for value in part.values if type(value) is str and len(value) > _UNCOUNTED_CHARACTERS)
    return 0
