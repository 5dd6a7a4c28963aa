"""The format `senml`: Sensor Measurement Lists in JSON and in CBOR (RFC 8428, versions in RFC 9100)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

from sensorsync.messages.mapping.formats import cbor
from sensorsync.messages.mapping.formats.json_text import JsonFormat
from sensorsync.messages.mapping.model import MAX_ROWS
from sensorsync.messages.reading.fields import json_type_name
from sensorsync.messages.reading.model import DecodeError

Number = int | float

_ExpectedTypes = tuple[set[type], str]
_NUMBER: Final[_ExpectedTypes] = ({int, float}, "a number")
_TEXT: Final[_ExpectedTypes] = ({str}, "a string")
_TYPES: Final[dict[str, _ExpectedTypes]] = {
    "bn": _TEXT, "bt": _NUMBER, "bu": _TEXT, "bv": _NUMBER, "bs": _NUMBER, "bver": ({int}, "an integer"),
    "n": _TEXT, "u": _TEXT, "v": _NUMBER, "vs": _TEXT, "vb": ({bool}, "a boolean"), "vd": _TEXT,
    "s": _NUMBER, "t": _NUMBER, "ut": _NUMBER,
}  # fmt: skip
"""Labels and the types of their values (RFC 8428, table 1)."""
_REGULAR_LABELS: Final = {label for label in _TYPES if not label.startswith("b")}
_VALUES: Final = ("v", "vs", "vb", "vd")
_NAME: Final = re.compile(r"[A-Za-z0-9][-A-Za-z0-9:./_]*+")
_LONGEST_NAME: Final = 1024

_VERSION: Final = 10
_SECONDARY_UNITS: Final = 26
"""Version 10 with the feature of RFC 8798 (RFC 9100, section 4), which concerns only names of units."""


@dataclass(slots=True)
class _BaseFields:
    """The base fields that are in force. Each holds until a record has the same one again."""

    name: str = ""
    time: Number = 0
    unit: str | None = None
    value: Number = 0
    sum: Number | None = None
    version: int | None = None
    """None before the first record."""


class SenmlFormat:
    """A parser of SenML. A document is a list of resolved records (RFC 8428, section 4.6), in the order of the pack.

    For example::

        {"name": "urn:dev:ow:10e2073a0108006:current", "bn": "urn:dev:ow:10e2073a0108006:", "n": "current",
         "u": "A", "t": 1276020071.001, "v": 1.2, "value": 1.2}

    | field                  | content                                                                                          |
    |------------------------|--------------------------------------------------------------------------------------------------|
    | `name`                 | base name and name together                                                                      |
    | `bn`, `n`              | the two parts; each is absent where there is none                                                |
    | `u`                    | the record's unit, else the base unit; absent where there is neither                             |
    | `t`                    | base time and time together, in seconds since 1970; less than 2**28: relative to the arrival     |
    | `v`, `vs`, `vb`, `vd`  | the one that the record has: number (with the base value), text, boolean, bytes as base64url     |
    | `value`                | the same value again, of any of these kinds; absent where the record has only a sum              |
    | `s`                    | base sum and sum together; absent where there is neither                                         |
    | `ut`                   | update time; absent where there is none                                                          |
    | `bver`                 | the version; absent where it is 10                                                               |

    A payload whose first byte is 0x80 or greater is CBOR. JSON never begins with such a byte, and a CBOR array always does. A record
    that has only base fields gives no record, as in RFC 8428, section 5.1.7. Fields that SenML does not define are left out; they
    raise DecodeError if their name ends in `_`.
    """

    has_records = True

    def __init__(self) -> None:
        self._json = JsonFormat()

    def parse(self, payload: bytes) -> list[dict[str, Any]]:
        pack = cbor.parse_pack(payload) if payload[:1] >= b"\x80" else self._json.parse(payload)
        if type(pack) is not list:
            raise DecodeError("format", f"a SenML pack is an array of records, not {json_type_name(pack)}")
        if len(pack) > MAX_ROWS:
            raise DecodeError("too_large", f"the pack has {len(pack)} records; at most {MAX_ROWS} are taken")
        bases = _BaseFields()
        found = []
        for place, record in enumerate(pack):
            try:
                resolved = _resolve_record(_known_fields(record), bases)
            except DecodeError as error:
                message = f"record {place} (counted from 0): {error.rejection.message}"
                raise DecodeError(error.rejection.reason, message) from None
            if resolved is not None:
                found.append(resolved)
        if not found:
            raise DecodeError("format", "the pack has no record with a value")
        return found


def _known_fields(record: Any) -> dict[str, Any]:
    """Return the fields of a record that SenML defines. Each has its type."""
    if type(record) is not dict:
        raise DecodeError("format", f"it is {json_type_name(record)}, not an object")
    known = {}
    for label, value in record.items():
        if label in _TYPES:
            types, expected = _TYPES[label]
            if type(value) not in types:
                raise DecodeError("format", f"{label} is {json_type_name(value)}, not {expected}")
            known[label] = _finite_number(label, value) if type(value) in {int, float} else value
        elif label.endswith("_"):
            raise DecodeError("format", f"{label[:40]!r} ends in _, so it must be understood, and is not")
    return known


def _resolve_record(record: dict[str, Any], bases: _BaseFields) -> dict[str, Any] | None:
    _update_base_fields(record, bases)
    if _REGULAR_LABELS.isdisjoint(record):
        return None
    given = [label for label in _VALUES if label in record]
    if len(given) > 1:
        raise DecodeError("format", f"it has more than one value: {' and '.join(given)}")
    if not given and "s" not in record and bases.sum is None:
        raise DecodeError("format", "it has neither a value nor a sum")

    name = _full_name(bases.name, record.get("n", ""))
    resolved: dict[str, Any] = {"name": name}
    if bases.name:
        resolved["bn"] = bases.name
    if "n" in record:
        resolved["n"] = record["n"]
    unit = record.get("u", bases.unit)
    if unit is not None:
        resolved["u"] = unit
    resolved["t"] = _finite_number("bt + t", bases.time + record.get("t", 0))
    for label in given:
        value = record[label] if label != "v" else _finite_number("bv + v", bases.value + record["v"])
        resolved[label] = resolved["value"] = value
    if "s" in record or bases.sum is not None:
        resolved["s"] = _finite_number("bs + s", (bases.sum or 0) + record.get("s", 0))
    if "ut" in record:
        resolved["ut"] = record["ut"]
    if bases.version != _VERSION:
        resolved["bver"] = bases.version
    return resolved


def _full_name(base: str, own: str) -> str:
    if len(base) + len(own) > _LONGEST_NAME:  # a long base name before each of many records would need gigabytes
        raise DecodeError(
            "format", f"the name has {len(base) + len(own)} characters; at most {_LONGEST_NAME} are taken"
        )
    name = base + own
    if not _NAME.fullmatch(name):
        raise DecodeError(
            "format", f"the name {name[:80]!r} is not made of A-Z, a-z, 0-9, -:./_ with a letter or a digit first"
        )
    return name


def _update_base_fields(record: dict[str, Any], bases: _BaseFields) -> None:
    bases.name = record.get("bn", bases.name)
    bases.time = record.get("bt", bases.time)
    bases.unit = record.get("bu", bases.unit)
    bases.value = record.get("bv", bases.value)
    bases.sum = record.get("bs", bases.sum)

    version = record.get("bver", bases.version or _VERSION)
    if not 1 <= version <= _VERSION and version != _SECONDARY_UNITS:
        raise DecodeError(
            "format", f"bver is {version}; versions 1 to {_VERSION} and {_SECONDARY_UNITS} are understood"
        )
    if bases.version is not None and bases.version != version:
        raise DecodeError("format", f"bver is {version}, and {bases.version} before: a pack has one version")
    bases.version = version


def _finite_number(what: str, number: Number) -> Number:
    """Return a finite number, which is an integer only where JSON's writers accept it as one. Raises DecodeError."""
    if type(number) is int and not -(2**63) <= number < 2**64:
        number = float(number)
    if not math.isfinite(number):
        raise DecodeError("nan", f"{what} is no finite number")
    return number
