"""The content of a row's `payload` column as JSON: the element, the whole message, or nothing."""

from __future__ import annotations

from typing import Any

from sensorsync.messages.mapping.conversions import json_text
from sensorsync.messages.mapping.message import Message, ValueGetter
from sensorsync.messages.mapping.model import MappingSpec
from sensorsync.messages.reading import fields

_DOCUMENT_TEXT_KEY = "payload text"
"""Key in `Message.cache`. The other keys are expressions, and none of them has a blank between two names."""


class PayloadColumn:
    """The maker of the column's JSON text.

    `json_text(element, message)` raises DecodeError for an element that is too deep for the JSON functions of the databases.
    """

    def __init__(self, spec: MappingSpec, *, element_is_document: bool, is_computed: bool) -> None:
        """Choose the content by `spec.keep`.

        `element_is_document` is True when the element is always the document. `is_computed` is True when `each` does more than select,
        so that an element can be nested deeper than the message.
        """
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
    """Return the text of a JSON message itself, so that no digit is lost."""
    return message.payload.decode()


def _document_text(_: Any, message: Message) -> str:
    cache = message.cache
    if _DOCUMENT_TEXT_KEY not in cache:
        cache[_DOCUMENT_TEXT_KEY] = json_text(message.document)
    text: str = cache[_DOCUMENT_TEXT_KEY]
    return text
