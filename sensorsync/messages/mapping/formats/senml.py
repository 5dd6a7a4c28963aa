"""`senml`: Sensor Measurement Lists in JSON and in CBOR (RFC 8428, versions: RFC 9100)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

from sensorsync.messages.mapping.formats import cbor
from sensorsync.messages.mapping.formats.json_text import Json
from sensorsync.messages.mapping.model import MAX_ROWS
from sensorsync.messages.reading.fields import kind
from sensorsync.messages.reading.model import Fault

Number = int | float

_Types = tuple[set[type], str]
_NUMBER: Final[_Types] = ({int, float}, "a number")
_TEXT: Final[_Types] = ({str}, "a string")
_TYPES: Final[dict[str, _Types]] = {
    "bn": _TEXT, "bt": _NUMBER, "bu": _TEXT, "bv": _NUMBER, "bs": _NUMBER, "bver": ({int}, "an integer"),
    "n": _TEXT, "u": _TEXT, "v": _NUMBER, "vs": _TEXT, "vb": ({bool}, "a boolean"), "vd": _TEXT,
    "s": _NUMBER, "t": _NUMBER, "ut": _NUMBER,
}  # fmt: skip
"""RFC 8428, table 1."""
_REGULAR: Final = {label for label in _TYPES if not label.startswith("b")}
_VALUES: Final = ("v", "vs", "vb", "vd")
_NAME: Final = re.compile(r"[A-Za-z0-9][-A-Za-z0-9:./_]*+")
_LONGEST_NAME: Final = 1024

_VERSION: Final = 10
_SECONDARY_UNITS: Final = 26
"""Version 10 with the feature of RFC 8798 (RFC 9100, section 4), which is about names of units alone."""


@dataclass(slots=True)
class _Bases:
    """The base fields that are in force: each holds until a record has the same one again."""

    name: str = ""
    time: Number = 0
    unit: str | None = None
    value: Number = 0
    sum: Number | None = None
    version: int | None = None
    """None before the first record."""


class Senml:
    """A document is a list of resolved records (RFC 8428, section 4.6), in the order of the pack.

    For example::

        {"name": "urn:dev:ow:10e2073a0108006:current", "bn": "urn:dev:ow:10e2073a0108006:", "n": "current",
         "u": "A", "t": 1276020071.001, "v": 1.2, "value": 1.2}

    | field                  | what it is                                                                                       |
    |------------------------|--------------------------------------------------------------------------------------------------|
    | `name`                 | base name and name together                                                                      |
    | `bn`, `n`              | the two parts, each where there is one                                                           |
    | `u`                    | the record's unit, else the base unit; absent where there is neither                             |
    | `t`                    | base time and time together, in seconds: since 1970, or less than 2**28: from the arrival        |
    | `v`, `vs`, `vb`, `vd`  | the one that the record has: number (with the base value), text, boolean, bytes as base64url     |
    | `value`                | the same once more, whichever it is; absent where the record has a sum alone                     |
    | `s`                    | base sum and sum together; absent where there is neither                                         |
    | `ut`                   | update time, where there is one                                                                  |
    | `bver`                 | the version, where it is not 10                                                                  |

    A payload whose first byte is 0x80 or greater is CBOR, which JSON never begins with; a CBOR array always does. A record of base
    fields alone gives no record, as in RFC 8428, section 5.1.7. Fields that SenML does not know are left out, and a Fault if their
    name ends in `_`.
    """

    records = True

    def __init__(self) -> None:
        self._json = Json()

    def parse(self, payload: bytes) -> list[dict[str, Any]]:
        pack = cbor.pack_of(payload) if payload[:1] >= b"\x80" else self._json.parse(payload)
        if type(pack) is not list:
            raise Fault("format", f"a SenML pack is an array of records, not {kind(pack)}")
        if len(pack) > MAX_ROWS:
            raise Fault("too_large", f"the pack has {len(pack)} records; at most {MAX_ROWS} are taken")
        bases = _Bases()
        found = []
        for place, record in enumerate(pack):
            try:
                resolved = _resolved(_known(record), bases)
            except Fault as fault:
                message = f"record {place} (counted from 0): {fault.rejected.message}"
                raise Fault(fault.rejected.reason, message) from None
            if resolved is not None:
                found.append(resolved)
        if not found:
            raise Fault("format", "the pack has no record with a value")
        return found


def _known(record: Any) -> dict[str, Any]:
    """The record's fields that SenML has, each of its type."""
    if type(record) is not dict:
        raise Fault("format", f"it is {kind(record)}, not an object")
    known = {}
    for label, value in record.items():
        if label in _TYPES:
            types, expected = _TYPES[label]
            if type(value) not in types:
                raise Fault("format", f"{label} is {kind(value)}, not {expected}")
            known[label] = _number(label, value) if type(value) in {int, float} else value
        elif label.endswith("_"):
            raise Fault("format", f"{label[:40]!r} ends in _, so it must be understood, and is not")
    return known


def _resolved(record: dict[str, Any], bases: _Bases) -> dict[str, Any] | None:
    _take_bases(record, bases)
    if _REGULAR.isdisjoint(record):
        return None
    given = [label for label in _VALUES if label in record]
    if len(given) > 1:
        raise Fault("format", f"it has more than one value: {' and '.join(given)}")
    if not given and "s" not in record and bases.sum is None:
        raise Fault("format", "it has neither a value nor a sum")

    name = _name(bases.name, record.get("n", ""))
    resolved: dict[str, Any] = {"name": name}
    if bases.name:
        resolved["bn"] = bases.name
    if "n" in record:
        resolved["n"] = record["n"]
    unit = record.get("u", bases.unit)
    if unit is not None:
        resolved["u"] = unit
    resolved["t"] = _number("bt + t", bases.time + record.get("t", 0))
    for label in given:
        value = record[label] if label != "v" else _number("bv + v", bases.value + record["v"])
        resolved[label] = resolved["value"] = value
    if "s" in record or bases.sum is not None:
        resolved["s"] = _number("bs + s", (bases.sum or 0) + record.get("s", 0))
    if "ut" in record:
        resolved["ut"] = record["ut"]
    if bases.version != _VERSION:
        resolved["bver"] = bases.version
    return resolved


def _name(base: str, own: str) -> str:
    if len(base) + len(own) > _LONGEST_NAME:  # a long base name before each of many records would take gigabytes
        raise Fault("format", f"the name has {len(base) + len(own)} characters; at most {_LONGEST_NAME} are taken")
    name = base + own
    if not _NAME.fullmatch(name):
        raise Fault(
            "format", f"the name {name[:80]!r} is not made of A-Z, a-z, 0-9, -:./_ with a letter or a digit first"
        )
    return name


def _take_bases(record: dict[str, Any], bases: _Bases) -> None:
    bases.name = record.get("bn", bases.name)
    bases.time = record.get("bt", bases.time)
    bases.unit = record.get("bu", bases.unit)
    bases.value = record.get("bv", bases.value)
    bases.sum = record.get("bs", bases.sum)

    version = record.get("bver", bases.version or _VERSION)
    if not 1 <= version <= _VERSION and version != _SECONDARY_UNITS:
        raise Fault("format", f"bver is {version}; versions 1 to {_VERSION} and {_SECONDARY_UNITS} are understood")
    if bases.version is not None and bases.version != version:
        raise Fault("format", f"bver is {version}, and {bases.version} before: a pack has one version")
    bases.version = version


def _number(what: str, number: Number) -> Number:
    """Finite, and an integer only where JSON's writers take it as one."""
    if type(number) is int and not -(2**63) <= number < 2**64:
        number = float(number)
    if not math.isfinite(number):
        raise Fault("nan", f"{what} is no finite number")
    return number
