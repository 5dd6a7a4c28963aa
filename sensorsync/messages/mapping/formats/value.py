"""The format `value`: the payload is the value itself, a number or a text, as most simple devices publish it."""

from __future__ import annotations

import re

import orjson

from sensorsync.messages.reading.model import DecodeError
from sensorsync.messages.reading.text import decode_utf8

_BLANKS = " \t\r\n\v\f\0"
"""Characters that are removed at both ends. NUL is one, because devices programmed in C send the one that ends their string."""
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
"""Number of JSON (RFC 8259, section 6)."""


def payload_text(payload: bytes) -> str:
    """Return the payload as a text, even when it is a number: `1.10` stays `1.10`. Raises DecodeError."""
    return decode_utf8(payload).strip(_BLANKS)


class ValueFormat:
    """A parser of bare values: `231.7` -> 231.7, `12` -> 12, `"on"` -> on. Others are texts: `ON`, `true`, `+5`, `nan`, `12 V`.

    `true` stays a text, because devices write it in as many ways as `on`, and the mapping defines its meaning. `nan`, which some
    devices send when a sensor fails, is a text too. A number beyond the range of a double raises DecodeError, and an integer beyond
    64 bits becomes the nearest double. A payload of blanks only raises DecodeError.
    """

    has_records = False

    def parse(self, payload: bytes) -> str | int | float:
        text = payload_text(payload)
        if not text:
            raise DecodeError("format", "the payload is empty")
        is_number = _NUMBER.fullmatch(text) is not None
        if not is_number and text[0] != '"':
            return text
        try:
            found: str | int | float = orjson.loads(text)
        except orjson.JSONDecodeError:
            if is_number:
                raise DecodeError("nan", "the number is beyond the range of a double") from None
            return text  # a text that begins with a quotation mark, such as inches or a quotation
        return found
