"""Helpers of the tests of the formats: parse a payload and check the result."""

from __future__ import annotations

import math
from typing import Any

import orjson

from sensorsync.messages.mapping.formats import create_format
from sensorsync.messages.mapping.model import MAX_ROWS, FormatSpec
from sensorsync.messages.reading import MAX_NESTING, REJECTION_REASONS, Rejected
from sensorsync.messages.reading.model import DecodeError


def parse(spec: FormatSpec, payload: bytes | str) -> Any:
    """Return the document of a payload, or the reason why there is none."""
    try:
        return create_format(spec).parse(payload.encode() if isinstance(payload, str) else payload)
    except DecodeError as fault:
        return fault.rejection


def rejected(spec: FormatSpec, payload: bytes | str) -> Rejected:
    """Return the reason why there is no document."""
    outcome = parse(spec, payload)
    assert isinstance(outcome, Rejected), outcome
    return outcome


def check_outcome(spec: FormatSpec, payload: bytes) -> None:
    """Check the properties of every payload."""
    outcome = parse(spec, payload)
    if isinstance(outcome, Rejected):
        assert outcome.reason in REJECTION_REASONS
        assert outcome.message
        return
    _check_json(outcome, MAX_NESTING)
    orjson.dumps(outcome)
    if create_format(spec).has_records:
        assert type(outcome) is list
        assert 1 <= len(outcome) <= MAX_ROWS
        assert all(type(record) is dict for record in outcome)


def _check_json(value: Any, levels: int) -> None:
    if type(value) is dict:
        assert all(type(name) is str for name in value)
        assert levels > 0
        for inner in value.values():
            _check_json(inner, levels - 1)
    elif type(value) is list:
        assert levels > 0
        for inner in value:
            _check_json(inner, levels - 1)
    elif type(value) is float:
        assert math.isfinite(value)
    elif type(value) is int:
        assert -(2**63) <= value < 2**64
    else:
        assert value is None or type(value) in {str, bool}
