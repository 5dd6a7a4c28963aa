"""The format `influx`: InfluxDB's line protocol (InfluxDB v2 documentation, "Line protocol").

The parser is our own. The maintained one on PyPI, line-protocol-parser, is written in C, and its version 2.0.1 crashed the process
on a byte that is not UTF-8.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final, Literal

from sensorsync.messages.mapping.model import MAX_ROWS
from sensorsync.messages.reading.model import DecodeError
from sensorsync.messages.reading.text import decode_utf8

# The possessive `++` and `*+` (Python 3.11) never backtrack. An escaping backslash is therefore never read as a plain one, and the
# time is linear.
_MEASUREMENT = re.compile(r"(?:\\[, ]|[^, ])++")
_KEY = re.compile(r"((?:\\[,= ]|[^,= ])++)=")
_TAG_VALUE = re.compile(r"(?:\\[,= ]|[^,= ])++")
_STRING = re.compile(r'"((?:\\.|[^"\\])*+)"')
_BARE = re.compile(r"[^, ]++")
_FLOAT = re.compile(r"-?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_INTEGER = re.compile(r"(-?[0-9]++)([iu])")
_TIME = re.compile(r"-?[0-9]++")
_BLANKS = re.compile(r" ++")

_ESCAPED_IN_MEASUREMENT = re.compile(r"\\([, ])")
_ESCAPED_IN_NAME = re.compile(r"\\([,= ])")
_ESCAPED_IN_STRING = re.compile(r'\\(["\\])')

_BOOLEANS: Final = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), False),
}
_RANGES: Final = {"i": (-(2**63), 2**63 - 1), "u": (0, 2**64 - 1)}
_LAST_TIME: Final = 2**63 - 2
"""The last nanosecond of the protocol and, with a minus, the first: the years 1677 to 2262."""
_MOST_DIGITS: Final = 20
_NANOSECONDS: Final = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}

Scalar = float | int | bool | str


class InfluxFormat:
    """A parser of line protocol. A document is a list of records, one for each field of each line, in the order of the payload.

    For example::

        {"measurement": "weather", "tags": {"site": "roof"}, "field": "celsius", "value": 21.5, "time": 1556813561098000000}

    `value` is a float, an integer (`5i`, `5u`), a boolean or a text, as in the line. `time` is an integer of nanoseconds since 1970
    for every precision of the time stamps, and null when a line has none. Comments and empty lines are skipped. A tag or a field that
    occurs twice in a line raises DecodeError, and so does a line break within a string.
    """

    has_records = True

    def __init__(self, precision: Literal["ns", "us", "ms", "s"] = "ns") -> None:
        self._unit = _NANOSECONDS[precision]

    def parse(self, payload: bytes) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for number, line in enumerate(decode_utf8(payload).split("\n"), 1):
            point = line.strip(" \t\r")
            if not point or point[0] == "#":
                continue
            try:
                found += self._parse_point(point)
            except DecodeError as error:
                raise DecodeError(error.rejection.reason, f"line {number}: {error.rejection.message}") from None
            if len(found) > MAX_ROWS:
                raise DecodeError("too_large", f"line {number}: a message may have {MAX_ROWS} fields at most")
        if not found:
            raise DecodeError("format", "the payload has no point")
        return found

    def _parse_point(self, point: str) -> list[dict[str, Any]]:
        measurement, tags, at = _series(point)
        fields, at = _fields(point, at)
        time = self._time(point[at:].strip(" "))
        return [
            {"measurement": measurement, "tags": tags, "field": field, "value": value, "time": time}
            for field, value in fields.items()
        ]

    def _time(self, text: str) -> int | None:
        if not text:
            return None
        if _TIME.fullmatch(text) is None:
            raise DecodeError("format", f"{_short(text)} is no time stamp")
        time = int(text) * self._unit if len(text) <= _MOST_DIGITS else math.inf
        if abs(time) > _LAST_TIME:
            raise DecodeError("format", f"the time stamp {_short(text)} is out of range")
        return int(time)


def _series(point: str) -> tuple[str, dict[str, str], int]:
    """Return the measurement, the tags and the position of the fields."""
    match = _MEASUREMENT.match(point)
    if match is None:
        raise DecodeError("format", "the measurement is missing")
    tags: dict[str, str] = {}
    at = match.end()
    while point.startswith(",", at):
        key, at = _key(point, at + 1, "tag")
        value = _TAG_VALUE.match(point, at)
        if value is None:
            raise DecodeError("format", f"the tag {_short(key)} is empty")
        if key in tags:
            raise DecodeError("format", f"the tag {_short(key)} occurs twice")
        tags[key] = _unescaped(_ESCAPED_IN_NAME, value[0])
        at = value.end()
    return _unescaped(_ESCAPED_IN_MEASUREMENT, match[0]), tags, _after_blanks(point, at)


def _fields(point: str, at: int) -> tuple[dict[str, Scalar], int]:
    """Return the fields and the position of their end."""
    fields: dict[str, Scalar] = {}
    while True:
        key, at = _key(point, at, "field")
        value, at = _value(point, at, key)
        if key in fields:
            raise DecodeError("format", f"the field {_short(key)} occurs twice")
        fields[key] = value
        if not point.startswith(",", at):
            return fields, at if at == len(point) else _after_blanks(point, at)
        at += 1


def _key(point: str, at: int, what: str) -> tuple[str, int]:
    match = _KEY.match(point, at)
    if match is None:
        raise DecodeError("format", f"a {what} (key=value) is expected at character {at}")
    return _unescaped(_ESCAPED_IN_NAME, match[1]), match.end()


def _after_blanks(point: str, at: int) -> int:
    blanks = _BLANKS.match(point, at)
    if blanks is None:
        raise DecodeError("format", f"a comma or a blank is expected at character {at}")
    return blanks.end()


def _value(point: str, at: int, key: str) -> tuple[Scalar, int]:
    if point.startswith('"', at):
        string = _STRING.match(point, at)
        if string is None:
            raise DecodeError("format", f"the text of the field {_short(key)} does not end on its line")
        return _unescaped(_ESCAPED_IN_STRING, string[1]), string.end()
    bare = _BARE.match(point, at)
    if bare is None:
        raise DecodeError("format", f"the field {_short(key)} is empty")
    return _scalar(bare[0], key), bare.end()


def _scalar(text: str, key: str) -> float | int | bool:
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise DecodeError("nan", f"the field {_short(key)} is beyond the range of a double")
        return number
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    integer = _INTEGER.fullmatch(text)
    if integer is None:
        raise DecodeError(
            "format",
            f"the field {_short(key)} is {_short(text)}: neither a number, true, false nor a text in double quotes",
        )
    digits, kind = integer.groups()
    lowest, highest = _RANGES[kind]
    if len(digits) > _MOST_DIGITS or not lowest <= int(digits) <= highest:
        raise DecodeError("format", f"the field {_short(key)} is {_short(text)}, which is out of range")
    return int(digits)


def _unescaped(escaped: re.Pattern[str], text: str) -> str:
    return escaped.sub(r"\1", text) if "\\" in text else text


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
