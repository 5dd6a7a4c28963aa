"""The rules of the fields of a reading. Each function returns the value of its field or raises DecodeError."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from sensorsync.messages.reading.model import MAX_ID, MAX_NESTING, MAX_VALUE_TEXT, DecodeError

STRING_ID = bytes.fromhex("4c2fd7f45ae55a0fa8e1a2f1c39ab9d0")
"""Namespace of the UUIDv5 of a string `event_id`. The name is device_id, a NUL and the string, in UTF-8 (RFC 9562, section 5.5)."""
PAYLOAD_ID = bytes.fromhex("b0a3d3f0174d5a86bb0f2c6f5e8a4b37")
"""Namespace of the UUIDv5 under `missing_id: payload`. The name is the topic in UTF-8, a NUL and the payload's bytes."""

EPOCH = "1970-01-01 00:00:00.000000"
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:\.(\d+))?(?:[Zz]|([+-](?:[01]\d|2[0-3]):[0-5]\d))",
    re.ASCII,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_KINDS = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def json_type_name(value: object) -> str:
    """Return the type of a JSON value in words."""
    return _KINDS.get(type(value), type(value).__name__)


# -- names -------------------------------------------------------------------------------------------------------------


def checked_name(field: str, name: object) -> str:
    """Return a device id or a metric. Raises DecodeError when it is not a valid name."""
    if name is None:
        raise DecodeError(field, f"{field} is missing")
    if type(name) is not str:
        raise DecodeError(field, f"{field} is {json_type_name(name)}, not a string")
    if not name:
        raise DecodeError(field, f"{field} is empty")
    if len(name) > MAX_ID:
        raise DecodeError(field, f"{field} has {len(name)} characters; at most {MAX_ID} are stored")
    if name != name.strip():
        # The collation pads with blanks, so `a` and `a ` would be one device.
        raise DecodeError(field, f"{field} {name!r} has blanks at its ends")
    if _CONTROL.search(name):
        raise DecodeError(field, f"{field} {name!r} has control characters")
    return name


def from_level(levels: list[str], level: int | None, field: str, message: dict[str, Any]) -> object:
    """Return the topic level that is this field, or the payload's member when no level is configured."""
    if level is None:
        return message.get(field)
    if level >= len(levels):
        raise DecodeError(
            field, f"the topic has {len(levels)} levels, and {field} should be level {level} (counted from 0)"
        )
    return levels[level]


# -- event ids ---------------------------------------------------------------------------------------------------------


def event_id_from_string(text: object, device_id: str) -> bytes:
    """Return the 16 bytes of an event_id.

    A UUID in its canonical form (8-4-4-4-12 hexadecimal digits) is taken as it is. Any other string becomes a UUIDv5.
    """
    if type(text) is not str:
        raise DecodeError("event_id", f"event_id is {json_type_name(text)}, not a string")
    if len(text) == 36 and text[8:24:5] == "----":
        try:
            found = bytes.fromhex(text.replace("-", ""))
        except ValueError:
            found = b""
        if len(found) == 16:  # fromhex ignores blanks
            return found
    if not text.strip():
        raise DecodeError("event_id", "event_id is empty")
    return _uuid5(STRING_ID, f"{device_id}\0{text}".encode())


def event_id_from_payload(topic: str, payload: bytes) -> bytes:
    """Return the event_id of a message that has none, under `missing_id: payload`."""
    return _uuid5(PAYLOAD_ID, topic.encode(errors="surrogatepass") + b"\0" + payload)


def row_event_id(event_id: bytes, row_name: str) -> bytes:
    """Return the event_id of one of several rows of a message. It is a UUIDv5 whose namespace is the message's event_id."""
    return _uuid5(event_id, row_name.encode())


def _uuid5(namespace: bytes, name: bytes) -> bytes:
    digest = bytearray(hashlib.sha1(namespace + name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


# -- time --------------------------------------------------------------------------------------------------------------


def rfc3339_to_utc(ts: object) -> str:
    """Convert an RFC 3339 time with a zone to UTC text of 26 characters.

    The seventh and later digits of a second are cut off here, for every server alike. MySQL would round and MariaDB would cut, so
    the same message would have two keys.
    """
    if type(ts) is not str:
        raise DecodeError("ts", f"ts is {json_type_name(ts)}, not an RFC 3339 string")
    # The form that most devices send. fromisoformat alone would accept week dates, a missing zone and hour 24 (Python 3.14).
    if (
        len(ts) == 27
        and ts[4:20:3] == "--T::."
        and ts[26] == "Z"
        and ts >= "1"
        and ts[11:13] < "24"
        and ts[20:26].isdigit()
    ):
        try:
            datetime.fromisoformat(ts)
        except ValueError:
            pass
        else:
            return f"{ts[:10]} {ts[11:26]}"
    match = _RFC3339.fullmatch(ts)
    if match is None:
        raise DecodeError("ts", f"ts {_short(ts)} is no RFC 3339 time with a zone, such as 2026-01-02T03:04:05.678Z")
    day, clock, fraction, offset = match.groups()
    text = f"{day} {clock}.{(fraction or '')[:6]:0<6}"
    try:
        moment = datetime.fromisoformat(text)
        if offset is not None:
            shift = timedelta(hours=int(offset[1:3]), minutes=int(offset[4:]))
            moment = moment - shift if offset[0] == "+" else moment + shift
            text = moment.isoformat(" ", "microseconds")
    except (ValueError, OverflowError) as error:
        raise DecodeError("ts", f"ts {_short(ts)} is out of range ({error})") from None
    if text < "1000":  # DATETIME begins there, and the time in UTC counts
        raise DecodeError("ts", f"ts {_short(ts)} is before the year 1000 in UTC")
    return text


def time_of_uuid7(event_id: bytes) -> str | None:
    """Return the time in a UUIDv7 (milliseconds, RFC 9562, section 5.7), or None for any other UUID."""
    if event_id[6] >> 4 != 7 or event_id[8] >> 6 != 2:
        return None
    return unix_to_utc(int.from_bytes(event_id[:6], "big") / 1000)


def unix_to_utc(seconds: float) -> str:
    """Convert Unix time in seconds to UTC text of 26 characters. Raises DecodeError beyond the year 9999."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise DecodeError("ts", f"a time of {seconds:.0f} s since 1970 is beyond the year 9999") from None
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds")


def check_age(ts: str, received_at: float, max_age: float) -> None:
    """Raise DecodeError when a reading was older than `max_age` seconds on its arrival.

    The time of arrival counts and not the present time, because a dead letter is replayed later.
    """
    age = received_at - datetime.fromisoformat(f"{ts}+00:00").timestamp()
    if age > max_age:
        raise DecodeError("age", f"the reading was {age:.0f} s old when it arrived; security.max_age is {max_age:g} s")


# -- values ------------------------------------------------------------------------------------------------------------


def value_columns(message: dict[str, Any]) -> tuple[float | None, str | None]:
    """Return (value, value_text), of which at least one is None. Raises DecodeError."""
    value = message.get("value")
    if isinstance(value, float | int):  # a boolean is an int
        return float(value), None
    if isinstance(value, str):
        return None, checked_text("value", value, MAX_VALUE_TEXT)
    if value is not None:
        raise DecodeError(
            "value", f"value is {json_type_name(value)}; a number, a boolean, a string or null is expected"
        )
    if "value" not in message:
        raise DecodeError("value", "value is missing (null says that there is none)")
    return None, None


def checked_text(field: str, text: object, limit: int) -> str:
    """Return the content of a text column. Raises DecodeError when it cannot be stored."""
    if type(text) is not str:
        raise DecodeError(field, f"{field} is {json_type_name(text)}, not a string")
    if len(text) > limit:
        raise DecodeError(field, f"{field} has {len(text)} characters; at most {limit} are stored")
    if "\0" in text:  # the functions of SQLite end a text there
        raise DecodeError(field, f"{field} has a NUL in it")
    return text


def check_nesting(message: dict[str, Any] | list[Any]) -> None:
    """Raise DecodeError when a message is nested too deep for the JSON functions of the servers."""
    level: list[Any] = [message]
    for _ in range(MAX_NESTING):
        members = (inner for outer in level for inner in (outer.values() if type(outer) is dict else outer))
        level = [inner for inner in members if type(inner) in (dict, list)]
        if not level:
            return
    raise DecodeError("nesting", f"the payload is nested deeper than {MAX_NESTING} levels")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
