"""All mappings of a configuration. A message goes to the first one that is for it."""

from __future__ import annotations

from collections.abc import Mapping as Properties
from collections.abc import Sequence
from typing import Any

from sensorsync.messages.mapping.formats import Format
from sensorsync.messages.mapping.mapping import Mapping
from sensorsync.messages.mapping.message import Message
from sensorsync.messages.mapping.model import FormatSpec, MappingSpec
from sensorsync.messages.reading.model import MAX_TOPIC, DecodeError, ReadingRules, Rejected
from sensorsync.messages.reading.rows import FanOut, Row

_KNOWN_TOPICS = 4096
_MAX_PAYLOAD = ReadingRules().max_payload
_Route = tuple[Mapping, tuple[str, ...]]


class Mappings:
    """A decoder that turns messages into rows by the mappings, in their order. It is thread-safe."""

    def __init__(
        self,
        specs: Sequence[MappingSpec],
        *,
        max_age: float | None = None,
        max_payload: int = _MAX_PAYLOAD,
    ) -> None:
        """Build the mappings. `max_age` is in seconds, as in `ReadingRules`, and `max_payload` in bytes. Raises MappingError."""
        formats: dict[FormatSpec, Format] = {}
        self.mappings: list[Mapping] = []
        for spec in specs:
            mapping = Mapping(spec, max_age=max_age, shared_format=formats.get(spec.format))
            formats[spec.format] = mapping.format
            self.mappings.append(mapping)
        self.max_payload = max_payload
        self._routes: dict[str, list[_Route]] = {}
        """Cache of the mappings that may be for a topic. Its size is bounded, and nothing depends on its content."""

    def decode(
        self, payload: bytes, topic: str, properties: Properties[str, object] | None, received_at: float
    ) -> Row | FanOut | Rejected | None:
        """Return the rows of a message, or its rejection, or None when no mapping is for it.

        `properties` are as in `Delivery.properties`, and `received_at` is in seconds since 1970. A payload that is not of the
        mapping's format is rejected, and so is a message for which `when` fails. When the mapping has a `when`, the mappings after it
        are tried first. Raises nothing.
        """
        routes = self._routes.get(topic)
        if routes is None:
            routes = self._find(topic)
        if not routes:
            return None
        if len(payload) > self.max_payload or len(topic) > MAX_TOPIC:
            return routes[0][0].prefix_rejection(self._too_large(payload, topic))
        documents: dict[Format, Any] = {}
        why: Rejected | None = None
        for mapping, texts in routes:
            format_ = mapping.format
            try:
                if format_ in documents:
                    document = documents[format_]
                    if type(document) is DecodeError:
                        raise document.with_traceback(None)
                else:
                    documents[format_] = document = format_.parse(payload)
                if not mapping.condition_holds(document):
                    continue
            except DecodeError as error:
                documents.setdefault(format_, error)
                why = why or mapping.prefix_rejection(error.rejection)
                if mapping.has_condition:
                    continue
                return why
            what: tuple[Any, ...] = (document, payload, topic, texts, properties, received_at, {})
            return mapping.rows(tuple.__new__(Message, what))  # half the time of Message(...)
        return why

    def _find(self, topic: str) -> list[_Route]:
        routes = [(mapping, texts) for mapping in self.mappings if (texts := mapping.match_topic(topic)) is not None]
        if len(topic) <= MAX_TOPIC:
            if len(self._routes) >= _KNOWN_TOPICS:
                self._routes.clear()
            self._routes[topic] = routes
        return routes

    def _too_large(self, payload: bytes, topic: str) -> Rejected:
        if len(topic) > MAX_TOPIC:
            return Rejected("topic", f"the topic has {len(topic)} characters; at most {MAX_TOPIC} are stored")
        return Rejected("too_large", f"the payload has {len(payload)} bytes; at most {self.max_payload} are taken")
