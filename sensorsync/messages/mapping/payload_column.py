"""What the `payload` column of a row gets: the element, the whole message, or nothing, as JSON."""

from __future__ import annotations

from typing import Any

from sensorsync.messages.mapping.conversions import json_text
from sensorsync.messages.mapping.message import Message, ValueGetter
from sensorsync.messages.mapping.model import MappingSpec
from sensorsync.messages.reading import fields

_DOCUMENT_TEXT_KEY = "payload text"
"""In `Message.memo`, where the other keys are expressions: none has a blank between two names."""


class PayloadColumn:
    """`text(element, message)` is the column's JSON text. Raises Fault for what the databases' JSON functions cannot take."""

    def __init__(self, spec: MappingSpec, *, element_is_document: bool, is_computed: bool) -> None:
        """`whole`: the element is always the document. `made`: `each` does more than pick, and can nest deeper than the message."""
        self._is_computed = is_computed
        self.json_text: ValueGetter = _empty_object_text if spec.keep == "nothing" else self._element_text
        if spec.keep == "message" or (element_is_document and spec.keep == "element"):
            self.json_text = _payload_text if spec.format.name == "json" else _document_text

    def _element_text(self, element: Any, message: Message) -> str:  # noqa: ARG002 - called like the others
        if self._is_computed and type(element) in {dict, list}:
            fields.check_nesting(element)
        return json_text(element)


def _empty_object_text(_: Any, __: Message) -> str:
    return "{}"


def _payload_text(_: Any, message: Message) -> str:
    """The text of a JSON message itself, so that no digit of it is lost."""
    return message.payload.decode()


def _document_text(_: Any, message: Message) -> str:
    memo = message.cache
    if _DOCUMENT_TEXT_KEY not in memo:
        memo[_DOCUMENT_TEXT_KEY] = json_text(message.document)
    text: str = memo[_DOCUMENT_TEXT_KEY]
    return text
