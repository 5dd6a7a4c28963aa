"""Decoding of UTF-8, and the reasons why bytes are not UTF-8 or a text is not JSON."""

from __future__ import annotations

import re

import orjson

from sensorsync.messages.reading.model import MAX_NESTING, DecodeError, Rejected

_NON_FINITE_NUMBER = re.compile(r"-?(NaN|Infinity)")


def decode_utf8(payload: bytes) -> str:
    """Return the text of a payload. Raises DecodeError."""
    try:
        return payload.decode()
    except UnicodeDecodeError as broken:
        raise DecodeError("encoding", f"the payload is not UTF-8 (byte {broken.start})") from None


def json_rejection(text: str, error: orjson.JSONDecodeError) -> Rejected:
    """Return the reason why orjson refused `text`."""
    if not text.strip():
        return Rejected("json", "the payload is empty")
    if _NON_FINITE_NUMBER.match(text, error.pos):
        return Rejected("nan", f"NaN and Infinity are no JSON (character {error.pos})")
    if "infinity" in error.msg:
        return Rejected("nan", f"a number is beyond the range of a double (character {error.pos})")
    if "depth" in error.msg:
        return Rejected("nesting", f"the payload is nested deeper than {MAX_NESTING} levels")
    return Rejected("json", f"the payload is not JSON: {error.msg} (character {error.pos})")
