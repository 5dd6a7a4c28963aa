"""The rules of the single fields. Each function returns the field's value or raises Fault."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from sensorsync.messages.reading.model import MAX_ID, MAX_NESTING, MAX_VALUE_TEXT, DecodeError

STRING_ID = bytes.fromhex("4c2fd7f45ae55a0fa8e1a2f1c39ab9d0")
"""Namespace of the UUIDv5 of a string `event_id`; the name is device_id, a NUL and the string, in UTF-8 (RFC 9562, section 5.5)."""
PAYLOAD_ID = bytes.fromhex("b0a3d3f0174d5a86bb0f2c6f5e8a4b37")
"""Namespace of the UUIDv5 under `missing_id: payload`; the name is the topic in UTF-8, a NUL and the payload's bytes."""

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
    """What a JSON value is, in words."""
    return _KINDS.get(type(value), type(value).__name__)


# -- names -------------------------------------------------------------------------------------------------------------


def checked_name(field: str, name: object) -> str:
    """A device id or a metric."""
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
    """The topic level that is this field, or what the payload says where no level is configured."""
    if level is None:
        return message.get(field)
    if level >= len(levels):
        raise DecodeError(
            field, f"the topic has {len(levels)} levels, and {field} should be level {level} (counted from 0)"
        )
    return levels[level]


# -- event ids ---------------------------------------------------------------------------------------------------------


def event_id_from_string(text: object, device_id: str) -> bytes:
    """The 16 bytes of an event_id: a UUID in its canonical form (8-4-4-4-12 hexadecimal digits) as it is, any other as UUIDv5."""
    if type(text) is not str:
        raise DecodeError("event_id", f"event_id is {json_type_name(text)}, not a string")
    if len(text) == 36 and text[8:24:5] == "----":
        try:
            found = bytes.fromhex(text.replace("-", ""))
        except ValueError:
            found = b""
        if len(found) == 16:  # fromhex skips blanks
            return found
    if not text.strip():
        raise DecodeError("event_id", "event_id is empty")
    return _uuid5(STRING_ID, f"{device_id}\0{text}".encode())


def event_id_from_payload(topic: str, payload: bytes) -> bytes:
    """The event_id of a message that has none, under `missing_id: payload`."""
    return _uuid5(PAYLOAD_ID, topic.encode(errors="surrogatepass") + b"\0" + payload)


def row_event_id(event_id: bytes, row_name: str) -> bytes:
    """The event_id of one of several rows that one message gives: UUIDv5, the message's event_id being the namespace."""
    return _uuid5(event_id, row_name.encode())


def _uuid5(namespace: bytes, name: bytes) -> bytes:
    digest = bytearray(hashlib.sha1(namespace + name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


# -- time --------------------------------------------------------------------------------------------------------------


def rfc3339_to_utc(ts: object) -> str:
    """RFC 3339 with a zone -> UTC text of 26 characters. A seventh and later digit is cut off, for every server alike.

    Left to the servers, MySQL would round and MariaDB cut, and the same message would have two keys.
    """
    if type(ts) is not str:
        raise DecodeError("ts", f"ts is {json_type_name(ts)}, not an RFC 3339 string")
    # The form that most devices send; fromisoformat alone would take week dates, a missing zone and hour 24 (Python 3.14).
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
    if text < "1000":  # DATETIME begins there, and what counts is the time in UTC
        raise DecodeError("ts", f"ts {_short(ts)} is before the year 1000 in UTC")
    return text


def time_of_uuid7(event_id: bytes) -> str | None:
    """The time in a UUIDv7 (milliseconds, RFC 9562, section 5.7), None for any other UUID."""
    if event_id[6] >> 4 != 7 or event_id[8] >> 6 != 2:
        return None
    return unix_to_utc(int.from_bytes(event_id[:6], "big") / 1000)


def unix_to_utc(seconds: float) -> str:
    """Unix time -> UTC text of 26 characters."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise DecodeError("ts", f"a time of {seconds:.0f} s since 1970 is beyond the year 9999") from None
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds")


def check_age(ts: str, received_at: float, max_age: float) -> None:
    """Refuse what was too old when it arrived; now is another time, for a letter that is replayed."""
    age = received_at - datetime.fromisoformat(f"{ts}+00:00").timestamp()
    if age > max_age:
        raise DecodeError("age", f"the reading was {age:.0f} s old when it arrived; security.max_age is {max_age:g} s")


# -- values ------------------------------------------------------------------------------------------------------------


def value_columns(message: dict[str, Any]) -> tuple[float | None, str | None]:
    """(value, value_text)."""
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
    """A text column's content."""
    if type(text) is not str:
        raise DecodeError(field, f"{field} is {json_type_name(text)}, not a string")
    if len(text) > limit:
        raise DecodeError(field, f"{field} has {len(text)} characters; at most {limit} are stored")
    if "\0" in text:  # SQLite's functions end a text there
        raise DecodeError(field, f"{field} has a NUL in it")
    return text


def check_nesting(message: dict[str, Any] | list[Any]) -> None:
    """Refuse what the servers' JSON functions find too deep."""
    level: list[Any] = [message]
    for _ in range(MAX_NESTING):
        members = (inner for outer in level for inner in (outer.values() if type(outer) is dict else outer))
        level = [inner for inner in members if type(inner) in (dict, list)]
        if not level:
            return
    raise DecodeError("nesting", f"the payload is nested deeper than {MAX_NESTING} levels")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
