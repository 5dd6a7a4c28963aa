"""Parsers of times as devices write them. They return UTC text of 26 characters, as in `Reading.ts`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sensorsync.messages.reading import fields
from sensorsync.messages.reading.model import DecodeError

TimeParser = Callable[[object, float], str | None]
"""Function (value, received_at) -> UTC text, or None when the value is not a time. It raises DecodeError."""

_UNIX = {"unix": 1_000_000, "unix_ms": 1_000, "unix_us": 1}
"""Microseconds of one unit. A unit of `unix_ns` is less than one."""
_RELATIVE = 2**28
"""Bound of relative times in seconds. A smaller time is relative to now (RFC 8428, section 4.5.3)."""
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - in UTC, like every text that is made of it
_NUMBER = re.compile(r"(-?)(\d{1,30})(?:\.(\d{1,20}))?", re.ASCII)
_LOCAL = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:\.(\d+))?", re.ASCII)
_YEAR = re.compile(r"(?<!%)(?:%%)*%[YyGcx]")
_OFFSET = re.compile(r"(?<!%)(?:%%)*%z")
_SAMPLE = datetime(2024, 11, 23, 14, 35, 46, 123456, UTC)
_LONGEST_TEXT = 100


def time_parser(time_format: str, zone: str | None = None, *, relative_to_arrival: bool = False) -> TimeParser:
    """Return the parser of a time format: `rfc3339`, `unix`, `unix_ms`, `unix_us`, `unix_ns`, `senml` or a pattern of strptime.

    `zone` is the IANA name of the zone of times that do not contain one. When the clock is set back in autumn, two times have the same
    text; it is taken as the first. With `relative_to_arrival`, a relative time of SenML counts from the arrival; otherwise it is
    not a time. Raises ValueError with a sentence.
    """
    place = None if zone is None else _load_zone(zone)
    if time_format == "rfc3339":
        return _rfc3339_parser(place)
    if "%" in time_format:
        return _strptime_parser(time_format, place)
    if place is not None:
        raise ValueError(f"a zone has no use with {time_format}: such a time is in UTC")
    if time_format == "senml":
        return _senml_parser(relative_to_arrival=relative_to_arrival)
    if time_format == "unix_ns":
        return lambda value, _: _microseconds_to_text(_nanoseconds(value))
    if time_format in _UNIX:
        unit = _UNIX[time_format]
        return lambda value, _: _microseconds_to_text(_microseconds(value, unit))
    raise ValueError(
        f"there is no time format {time_format!r}: rfc3339, unix, unix_ms, unix_us, unix_ns, senml, or a pattern"
    )


def _load_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name!r}; names are such as Europe/Berlin") from None


def _rfc3339_parser(zone: ZoneInfo | None) -> TimeParser:
    if zone is None:
        return lambda value, _: fields.rfc3339_to_utc(value)

    def in_zone(value: object, _: float) -> str:
        local = _LOCAL.fullmatch(value) if type(value) is str else None
        if local is None:
            return fields.rfc3339_to_utc(value)
        day, clock, fraction = local.groups()
        try:
            moment = datetime.fromisoformat(f"{day} {clock}.{(fraction or '')[:6]:0<6}")
            return _local_to_utc_text(moment.replace(tzinfo=zone))
        except (ValueError, OverflowError) as error:
            raise DecodeError("ts", f"{value!r} is out of range ({error})") from None

    return in_zone


def _strptime_parser(pattern: str, zone: ZoneInfo | None) -> TimeParser:
    has_offset = bool(_OFFSET.search(pattern))
    if not _YEAR.search(pattern):
        raise ValueError(f"the pattern {pattern!r} has no year (%Y)")
    if not has_offset and zone is None:
        raise ValueError(f"the pattern {pattern!r} says no zone: add %z to it, or give the zone, such as zone: UTC")
    if has_offset and zone is not None:
        raise ValueError("a zone has no use where the pattern has %z: then each time says its own")
    try:
        sample = datetime.strptime(_SAMPLE.strftime(pattern), pattern)  # noqa: DTZ007 - only its date is compared
    except ValueError as error:
        raise ValueError(f"the pattern {pattern!r} reads no time: {error}") from None
    if sample.date() != _SAMPLE.date():
        raise ValueError(f"the pattern {pattern!r} does not say the whole date")

    def read(value: object, _: float) -> str:
        text = str(value) if type(value) is int and abs(value) < 10**20 else value
        if type(text) is not str:
            raise DecodeError("ts", f"{fields.json_type_name(value)} is no time like {pattern!r}")
        if len(text) > _LONGEST_TEXT:
            raise DecodeError("ts", f"a time of {len(text)} characters is too long")
        try:
            moment = datetime.strptime(text, pattern)  # noqa: DTZ007 - the zone comes next
            return _local_to_utc_text(moment if zone is None else moment.replace(tzinfo=zone))
        except (ValueError, OverflowError):
            raise DecodeError("ts", f"{text!r} is no time like {pattern!r}") from None

    return read


def _senml_parser(*, relative_to_arrival: bool) -> TimeParser:
    def read(value: object, received_at: float) -> str | None:
        microseconds = _microseconds(value, 1_000_000)
        if microseconds >= _RELATIVE * 1_000_000:
            return _microseconds_to_text(microseconds)
        return _microseconds_to_text(round(received_at * 1_000_000) + microseconds) if relative_to_arrival else None

    return read


def _local_to_utc_text(moment: datetime) -> str:
    return _format_utc(moment.astimezone(UTC).replace(tzinfo=None))


def _microseconds(value: object, unit: int) -> int:
    """Return microseconds since 1970. Fractions of a microsecond are cut off a text and rounded in a double."""
    if type(value) is int:
        return value * unit
    if type(value) is float:
        try:
            return round(value * unit)
        except (OverflowError, ValueError):
            raise DecodeError("ts", "the time is no finite number") from None
    sign, whole, fraction = _digits(value)
    exact = int(f"{whole}{fraction:0<20}") * unit // 10**20
    return -exact if sign else exact


def _nanoseconds(value: object) -> int:
    """Convert nanoseconds since 1970 to microseconds. Fractions of a microsecond are cut off an integer and a text."""
    if type(value) is float:
        return _microseconds(value / 1000, 1)
    return _microseconds(value, 1) // 1000


def _digits(value: object) -> tuple[str, str, str]:
    found = _NUMBER.fullmatch(value) if type(value) is str else None
    if found is None:
        shown = repr(value[:40]) if type(value) is str else fields.json_type_name(value)
        raise DecodeError("ts", f"{shown} is no number of seconds (or their parts) since 1970")
    sign, whole, fraction = found.groups()
    return sign, whole, fraction or ""


def _microseconds_to_text(microseconds: int) -> str:
    try:
        return _format_utc(_EPOCH + timedelta(microseconds=microseconds))
    except OverflowError:
        raise DecodeError("ts", "the time is outside of the years 1000 to 9999") from None


def _format_utc(moment: datetime) -> str:
    text = moment.isoformat(" ", "microseconds")
    if text < "1000":  # DATETIME begins there
        raise DecodeError("ts", "the time is before the year 1000 in UTC")
    return text
