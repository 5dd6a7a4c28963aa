"""Conversions of a message's values to the values of columns. Each function returns the value or raises DecodeError."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any

import orjson

from sensorsync.messages.reading import fields
from sensorsync.messages.reading.model import DecodeError

Convert = Callable[[Any], Any]

_NUMBER = re.compile(r"\s*([+-]?)(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_LONGEST_NUMBER = 400
"""Characters of the longest number. A double that is written out in full has no more digits before its point."""
_INT64_LIMIT = 2**63
_UINT64_LIMIT = 2**64
"""Bound of the integers of a column: BIGINT UNSIGNED holds all below it. The database rejects those that its column does not hold."""
_DECIMAL = Context(prec=50, traps=[])
"""Context of the conversions. Threads may have others, and the same number must always give the same result.

Its precision is enough for any double and any unit.
"""
_BOOLEAN_WORDS = {
    "true": True,
    "on": True,
    "yes": True,
    "1": True,
    "false": False,
    "off": False,
    "no": False,
    "0": False,
}


def type_converter(kind: str, reason: str, label: str) -> Convert:
    """Return the converter to one type: `number`, `integer`, `boolean`, `text` or `json`. `label` names the field in errors."""

    def mismatch(value: object, expected: str) -> DecodeError:
        return DecodeError(reason, f"{label} is {_format_value(value)}, not {expected}")

    def number(value: Any) -> float | int:
        found = _parse_number(value)
        if found is None:
            raise mismatch(value, "a number")
        return found

    def integer(value: Any) -> int:
        found = _parse_number(value, _UINT64_LIMIT)
        if type(found) is float and found.is_integer():
            found = int(found)
        if type(found) is not int or not -_INT64_LIMIT <= found < _UINT64_LIMIT:
            raise mismatch(value, "an integer of 64 bits")
        return found

    def boolean(value: Any) -> bool:
        found = _BOOLEAN_WORDS.get(value.strip().lower()) if type(value) is str and len(value) < 20 else value
        if found in (0, 1):
            return bool(found)
        raise mismatch(value, "true or false")

    def text(value: Any) -> str:
        if type(value) is str:
            return value
        if type(value) in (dict, list):
            raise mismatch(value, "a text")
        validate_precision(value, reason, label)
        return json_text(value)

    return {"number": number, "integer": integer, "boolean": boolean, "text": text, "json": json_text}[kind]


def linear_converter(scale: Decimal, offset: Decimal, reason: str, label: str) -> Convert:
    """Return a converter of a number to number * scale + offset, computed in decimal: 48.2 degF are 9 degC, not 9.000000000000004.

    Doubles cannot do that, and rounding cannot fix it. Where the offset removes most of a number, noise remains in any number of
    digits (273.25 K are 0.10000000000002274 degC in doubles), and fewer digits would cut measured ones.
    """

    def convert(value: float) -> float:
        found = float(_DECIMAL.fma(Decimal(repr(value)), scale, offset))
        if not math.isfinite(found):
            raise DecodeError(reason, f"{label} is beyond the range of a double after its conversion")
        return found

    return convert


def untyped_value(value: Any, reason: str, label: str) -> float | int | bool | str:
    """Return a value as it arrives, for a column without a type. A text or a boolean stays, anything else must be a number."""
    if type(value) is str or type(value) is bool:
        return value
    found = _parse_number(value)
    if found is None:
        raise DecodeError(reason, f"{label} is {_format_value(value)}; a number, a boolean or a text is expected")
    return found


def validate_precision(value: Any, reason: str, label: str) -> None:
    """Raise DecodeError when a value that becomes a text has lost digits.

    JSON's reader makes a double of an integer beyond 64 bits, so two serial numbers would become the same text.
    """
    if type(value) is float and abs(value) >= _INT64_LIMIT:
        raise DecodeError(
            reason, f"{label} is a number beyond 64 bits, whose digits are not kept: let the device send it as a text"
        )


def json_text(value: Any) -> str:
    """Return a value as compact JSON. Raises DecodeError for a value that JSON does not have."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        pass
    try:  # orjson writes integers of 64 bits only
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError) as error:
        raise DecodeError("mapping", f"what the mapping made is no JSON: {error}") from None


def _format_value(value: object) -> str:
    if type(value) is str:
        return repr(value[:40])
    if type(value) is float or (
        type(value) is int and -_INT64_LIMIT <= value <= _INT64_LIMIT
    ):  # Python refuses to format very long integers
        return repr(value)
    return fields.json_type_name(value)


def _parse_number(value: Any, limit: int = _INT64_LIMIT) -> float | int | None:
    """Return a finite double or an integer below `limit`, or None when the value is not a number.

    A larger integer becomes the nearest double.
    """
    if type(value) is str:
        found = _NUMBER.fullmatch(value) if len(value) <= _LONGEST_NUMBER else None
        if found is None:
            return None
        value = int(value) if found[2].isdigit() and not found[3] else float(value)
    elif type(value) is bool:
        return int(value)
    if type(value) is int:
        if -_INT64_LIMIT <= value < limit:
            return value
        try:
            value = float(value)
        except OverflowError:
            return None
    return value if type(value) is float and math.isfinite(value) else None
