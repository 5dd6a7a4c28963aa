"""Durations and sizes: parsers of their written forms, and formatters.

`Duration` is a float of seconds, and `Size` is an int of bytes. Both take a plain number or a text with a unit (`200ms`, `64MiB`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

SECONDS: Mapping[str, float] = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
"""Seconds in each unit of a duration."""

BYTES: Mapping[str, int] = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
"""Bytes in each unit of a size, as the IEC defines them: `MB` is decimal, `MiB` is binary. Upper and lower case are the same."""

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:us|ms|s|m|h|d|w))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d|w)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")

_TOO_LONG = 1e12
_BAD_DURATION = (
    "not a duration: write a number with a unit, such as 200ms, 5s, 2m, 1h or 7d (a plain number is seconds)"
)
_BAD_SIZE = "not a size: write a number with a unit, such as 64MiB, 2GiB or 10MB (a plain number is bytes)"


def parse_duration(value: object) -> float:
    """Return the seconds of `200ms`, `1m30s` or a plain number of seconds. Raises ValueError with a sentence."""
    if isinstance(value, bool):
        raise ValueError(_BAD_DURATION)  # noqa: TRY004 - pydantic reports only ValueErrors
    if isinstance(value, int | float):
        seconds = float(value) if abs(value) < _TOO_LONG else math.inf
    elif isinstance(value, str):
        seconds = _seconds(value.strip())
    else:
        raise ValueError(_BAD_DURATION)  # noqa: TRY004 - see above
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError("a duration is finite and not negative")
    return seconds


def _seconds(text: str) -> float:
    if _NUMBER.fullmatch(text):
        return float(text)
    compact = text.replace(" ", "")
    if not _DURATION.fullmatch(compact):
        raise ValueError(_BAD_DURATION)
    return sum(float(number) * SECONDS[unit] for number, unit in _DURATION_PART.findall(compact))


def format_duration(seconds: float) -> str:
    """Return the shortest exact text with one unit: 0.2 -> `200ms`, 90 -> `90s`, 604800 -> `7d`."""
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count = seconds / SECONDS[unit]
        if count >= 1 and math.isclose(count, round(count), rel_tol=1e-12):
            return f"{round(count)}{unit}"
    return f"{seconds:.12g}s"


def parse_size(value: object) -> int:
    """Return the bytes of `64MiB`, `10MB` or a plain number of bytes. Raises ValueError with a sentence."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(_BAD_SIZE)  # noqa: TRY004 - see above
    if isinstance(value, str):
        return _bytes(value.strip())
    if not math.isfinite(value) or value < 0 or value != int(value):
        raise ValueError("a size is a whole number of bytes, and not negative")
    return int(value)


def _bytes(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(_BAD_SIZE)
    number, unit = match.groups()
    factor = BYTES.get(unit.lower() or "b")
    if factor is None:
        raise ValueError(_BAD_SIZE)
    count = float(number) * factor
    if not math.isfinite(count):
        raise ValueError(_BAD_SIZE)
    return int(number) * factor if number.isdigit() else round(count)


def format_size(count: int) -> str:
    """Return the shortest exact text with one unit: 67108864 -> `64MiB`, 10000000 -> `10MB`, 1500 -> `1500B`."""
    for unit in ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB"):
        factor = BYTES[unit.lower()]
        if count >= factor and count % factor == 0:
            return f"{count // factor}{unit}"
    return f"{count}B"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": r"^\s*(\d+(\.\d+)?|(\d+(\.\d+)?\s*(us|ms|s|m|h|d|w)\s*)+)\s*$"},
            ],
            "title": "duration",
        }
    ),
]
"""Seconds as a float, written as `200ms`, `5s`, `2m`, `1h`, `7d` or a plain number of seconds."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([kKmMgGtT][iI]?)?[bB]?\s*$"},
            ],
            "title": "size",
        }
    ),
]
"""Bytes as an int, written as `64MiB`, `2GiB`, `10MB` or a plain number of bytes."""
