"""What the `payload` column of a row gets: the element, the whole message, or nothing, as JSON."""

from __future__ import annotations

from typing import Any

from sensorsync.messages.mapping.conversions import json_text
from sensorsync.messages.mapping.message import Get, Message
from sensorsync.messages.mapping.model import MappingSpec
from sensorsync.messages.reading import fields

_WHOLE = "payload text"
"""In `Message.memo`, where the other keys are expressions: none has a blank between two names."""


class Kept:
    """`text(element, message)` is the column's JSON text. Raises Fault for what the databases' JSON functions cannot take."""

    def __init__(self, spec: MappingSpec, *, whole: bool, made: bool) -> None:
        """`whole`: the element is always the document. `made`: `each` does more than pick, and can nest deeper than the message."""
        self._made = made
        self.text: Get = _nothing if spec.keep == "nothing" else self._element
        if spec.keep == "message" or (whole and spec.keep == "element"):
            self.text = _as_it_came if spec.format.name == "json" else _document

    def _element(self, element: Any, message: Message) -> str:  # noqa: ARG002 - called like the others
        if self._made and type(element) in {dict, list}:
            fields.check_nesting(element)
        return json_text(element)


def _nothing(_: Any, __: Message) -> str:
    return "{}"


def _as_it_came(_: Any, message: Message) -> str:
    """The text of a JSON message itself, so that no digit of it is lost."""
    return message.payload.decode()


def _document(_: Any, message: Message) -> str:
    memo = message.memo
    if _WHOLE not in memo:
        memo[_WHOLE] = json_text(message.document)
    text: str = memo[_WHOLE]
    return text
