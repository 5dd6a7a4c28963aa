"""Any payload has one outcome, raises no exception, and never gives a row that a database could not store."""

from __future__ import annotations

import json
import math

import orjson
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.config import Settings
from sensorsync.messages.reading import REJECTION_REASONS
from sensorsync.pipeline.contract import Delivery, FanOut, Reading, Rejected, Row
from sensorsync.wiring import message_decoder, message_encoder
from tests.bad_input import GOOD

SIGNED = Settings.model_validate(
    {"security": {"signatures": "required", "keys": [{"id": "k", "secret": "x" * 40}]}},
)
PLAIN = Settings()
_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=200)
_json = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def delivery(payload: bytes) -> Delivery:
    return Delivery("t/x", payload, 1, 1.7e9, None)


def check(outcome: Row | FanOut | Rejected) -> None:
    if isinstance(outcome, Rejected):
        assert outcome.reason in REJECTION_REASONS
        assert outcome.message
        return
    assert isinstance(outcome, Reading)
    assert len(outcome.event_id) == 16
    assert 0 < len(outcome.device_id) <= 128
    assert 0 < len(outcome.metric) <= 128
    assert len(outcome.ts) == 26
    assert outcome.value is None or math.isfinite(outcome.value)
    outcome.payload.encode()
    orjson.loads(outcome.payload)


@given(st.binary(max_size=500))
def test_any_bytes_have_one_outcome(payload: bytes) -> None:
    check(message_decoder(PLAIN)(delivery(payload)))


@given(st.dictionaries(st.sampled_from(list(GOOD)), _json, max_size=6))
def test_a_reading_with_any_fields_has_one_outcome(fields: dict[str, object]) -> None:
    check(message_decoder(PLAIN)(delivery(json.dumps({**GOOD, **fields}).encode())))


@given(st.data())
def test_a_damaged_signed_message_is_never_accepted(data: st.DataObject) -> None:
    seal = message_encoder(SIGNED.security)
    assert seal is not None
    token = bytearray(seal(json.dumps(GOOD).encode()))
    decode = message_decoder(SIGNED)
    assert isinstance(decode(delivery(bytes(token))), Reading)
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.integers(0, 255))
    if token[place] == letter:
        letter ^= 1
    token[place] = letter

    outcome = decode(delivery(bytes(token)))

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "signature"
