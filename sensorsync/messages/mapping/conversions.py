"""From what a message has to what a column holds. Each function returns the value or raises Fault."""

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
"""Characters: a double written out in full has no more digits before its point."""
_INT64_LIMIT = 2**63
_UINT64_LIMIT = 2**64
"""Integers of a column are from -2**63 to below this: what BIGINT and BIGINT UNSIGNED hold. The database refuses what its column
does not hold."""
_DECIMAL = Context(prec=50, traps=[])
"""Of its own, for threads may have others: the same number has to become the same. Digits for any double and any unit."""
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
    """The function for one type: `number`, `integer`, `boolean`, `text` or `json`. `label` names the field in faults."""

    def fault(value: object, wanted: str) -> DecodeError:
        return DecodeError(reason, f"{label} is {_format_value(value)}, not {wanted}")

    def number(value: Any) -> float | int:
        found = _parse_number(value)
        if found is None:
            raise fault(value, "a number")
        return found

    def integer(value: Any) -> int:
        found = _parse_number(value, _UINT64_LIMIT)
        if type(found) is float and found.is_integer():
            found = int(found)
        if type(found) is not int or not -_INT64_LIMIT <= found < _UINT64_LIMIT:
            raise fault(value, "an integer of 64 bits")
        return found

    def boolean(value: Any) -> bool:
        found = _BOOLEAN_WORDS.get(value.strip().lower()) if type(value) is str and len(value) < 20 else value
        if found in (0, 1):
            return bool(found)
        raise fault(value, "true or false")

    def text(value: Any) -> str:
        if type(value) is str:
            return value
        if type(value) in (dict, list):
            raise fault(value, "a text")
        validate_precision(value, reason, label)
        return json_text(value)

    return {"number": number, "integer": integer, "boolean": boolean, "text": text, "json": json_text}[kind]


def linear_converter(scale: Decimal, offset: Decimal, reason: str, label: str) -> Convert:
    """A number -> number * scale + offset, computed in decimal: 48.2 degF are 9 degC, and not 9.000000000000004.

    Doubles cannot do that, and rounding cannot mend it: where the offset takes most of a number away, noise is left in any number of
    digits (273.25 K are 0.10000000000002274 degC in doubles), and fewer digits would cut what was measured.
    """

    def convert(value: float) -> float:
        found = float(_DECIMAL.fma(Decimal(repr(value)), scale, offset))
        if not math.isfinite(found):
            raise DecodeError(reason, f"{label} is beyond the range of a double after its conversion")
        return found

    return convert


def untyped_value(value: Any, reason: str, label: str) -> float | int | bool | str:
    """A value as it comes, for a column without a type."""
    if type(value) is str or type(value) is bool:
        return value
    found = _parse_number(value)
    if found is None:
        raise DecodeError(reason, f"{label} is {_format_value(value)}; a number, a boolean or a text is expected")
    return found


def validate_precision(value: Any, reason: str, label: str) -> None:
    """For what becomes a text. Of an integer beyond 64 bits JSON's reader keeps a double: two serial numbers would be one text."""
    if type(value) is float and abs(value) >= _INT64_LIMIT:
        raise DecodeError(
            reason, f"{label} is a number beyond 64 bits, whose digits are not kept: let the device send it as a text"
        )


def json_text(value: Any) -> str:
    """A value as JSON, in as few characters as there are. Raises Fault for what is none."""
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
    ):  # Python refuses to write very long ones
        return repr(value)
    return fields.json_type_name(value)


def _parse_number(value: Any, limit: int = _INT64_LIMIT) -> float | int | None:
    """Return a finite double, or an integer below `limit`; a larger one becomes the nearest double. None for another value."""
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
