"""CBOR (RFC 8949) as SenML uses it (RFC 8428, section 6). The pack gets the labels and the types that it has in JSON."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any, Final

import cbor2

from sensorsync.messages.reading.fields import json_type_name
from sensorsync.messages.reading.model import MAX_NESTING, DecodeError

_LABELS: Final = {
    -6: "bs", -5: "bv", -4: "bu", -3: "bt", -2: "bn", -1: "bver",
    0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb", 5: "s", 6: "t", 7: "ut", 8: "vd",
}  # fmt: skip
"""Labels in CBOR and in JSON (RFC 8428, table 4)."""


class _TagDecoders(dict[int, Callable[[Any, bool], Any]]):
    """Decoders of tagged items, by tag. Tags that are not in it are refused.

    Without it, the library would compile regular expressions, parse e-mail and follow references that any sender puts into a payload.
    """

    def __missing__(self, tag: int) -> Callable[[Any, bool], Any]:
        raise ValueError(f"tag {tag} is none of SenML's")


def _decimal_fraction(pair: Any, _immutable: bool) -> float:
    """Return the number of a decimal fraction, [exponent, mantissa] (RFC 8949, section 3.4.4)."""
    if len(pair) != 2 or any(type(part) is not int for part in pair):
        raise ValueError("a decimal fraction is an array of two integers")
    return float(f"{pair[1]}e{pair[0]}")


_TAGS: Final = _TagDecoders({4: _decimal_fraction, 55799: lambda item, _immutable: item})
"""The tags that SenML may have. 55799 marks a payload as CBOR and changes nothing (RFC 8949, section 3.4.6)."""
_READ_SIZE: Final = 4096


def parse_pack(payload: bytes) -> Any:
    """Decode a payload. Raises DecodeError.

    In an array of maps, each label of SenML becomes its name in JSON, and `vd` becomes base64url. Numbers may be infinite or NaN, and
    types may be wrong. The reader of the fields checks them.
    """
    stream = io.BytesIO(payload)
    decoder = cbor2.CBORDecoder(stream, semantic_decoders=_TAGS, max_depth=MAX_NESTING, read_size=_READ_SIZE)
    try:
        pack = decoder.decode()
    except cbor2.CBORDecodeError as error:
        if "nesting" in str(error):
            raise DecodeError("nesting", f"the payload is nested deeper than {MAX_NESTING} levels") from None
        raise DecodeError("format", f"the payload is not SenML's CBOR: {error.__cause__ or error}") from None
    if stream.read(1):
        raise DecodeError("format", f"the payload goes on after its CBOR ends (byte {stream.tell() - 1})")
    return (
        [_with_json_labels(record) if type(record) is dict else record for record in pack]
        if type(pack) is list
        else pack
    )


def _with_json_labels(record: dict[Any, Any]) -> dict[str, Any]:
    named = {}
    for label, value in record.items():
        name = _LABELS.get(label) if type(label) is int else label
        if name == "vd":
            if type(value) is not bytes:
                raise DecodeError("format", f"vd is {json_type_name(value)}, not a byte string")
            named[name] = base64.urlsafe_b64encode(value).rstrip(b"=").decode()
        elif type(name) is str:
            named[name] = value
    return named
