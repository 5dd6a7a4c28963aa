"""Lines of samples become messages, and lines that are none say why."""

from __future__ import annotations

import io
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.commands.map_samples import MAX_LINE_BYTES, BadSampleLine, Sample, parse_sample, read_samples
from sensorsync.deadletters import StoredLetter
from sensorsync.deadletters.transfer import letter_to_line
from sensorsync.pipeline.contract import Delivery


def message(**keys: object) -> Delivery:
    return parse_sample(json.dumps({"topic": "a/b", **keys}).encode())


def complaint(line: bytes | str) -> str:
    with pytest.raises(ValueError) as error:
        parse_sample(line.encode() if isinstance(line, str) else line)
    return str(error.value)


@pytest.mark.parametrize(
    ("payload", "bytes_"),
    [
        ("231.7", b"231.7"),
        ("", b""),
        ("21.5 °C", "21.5 °C".encode()),
        (231.7, b"231.7"),
        (True, b"true"),
        (None, b"null"),
        ({"b": 1, "a": ["°", 12345678901234567890123]}, '{"b":1,"a":["°",12345678901234567890123]}'.encode()),
    ],
)
def test_a_text_is_its_bytes_and_any_other_payload_its_json(payload: object, bytes_: bytes) -> None:
    assert message(payload=payload).payload == bytes_


def test_bytes_that_are_not_text_come_as_base64() -> None:
    assert message(payload_base64="gqD/").payload == b"\x82\xa0\xff"


def test_a_sample_has_the_properties_that_a_delivery_has() -> None:
    sample = message(payload="1", user_properties={"unit": "C"}, content_type="text/plain")
    assert sample.properties == {"user_properties": [["unit", "C"]], "content_type": "text/plain"}
    twice = message(payload="1", user_properties=[["a", "1"], ["a", "2"]])
    assert twice.properties == {"user_properties": [["a", "1"], ["a", "2"]]}
    assert message(payload="1").properties is None


def test_a_sample_arrives_at_its_received_at_or_now() -> None:
    assert message(payload="1", received_at="2026-01-02T04:04:05.5+01:00").received_at == 1767323045.5
    assert message(payload="1").received_at == pytest.approx(time.time(), abs=30)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("21.5", "it is a number, not an object such as"),
        ("{", "it is not JSON: Expecting property name enclosed in double quotes (character 1)"),
        ('{"payload": "1"}', "topic is missing"),
        ('{"topic": 1, "payload": "1"}', "topic is a number, not a text"),
        ('{"topic": "a/+", "payload": "1"}', "topic: a topic to publish to has no + and no #"),
        ('{"topic": "a"}', "it has to have either payload or payload_base64"),
        ('{"topic": "a", "payload": "1", "payload_base64": "MQ=="}', "it has to have either payload or payload_base64"),
        ('{"topic": "a", "payload_base64": "?"}', "payload_base64 is not base64"),
        ('{"topic": "a", "payload_base64": "ü"}', "payload_base64 is not base64"),
        ('{"topic": "a", "payload_base64": 1}', "payload_base64 is a number, not a text"),
        ('{"topic": "a", "payload": NaN}', "NaN is no JSON"),
        ('{"topic": "a", "payload": "\\ud800"}', "payload is not Unicode: it has a lone surrogate (character 0)"),
        ('{"topic": "a", "payload": "1", "propertys": {}}', "'propertys' is none of its keys: topic, payload,"),
        ('{"topic": "a", "payload": "1", "user_properties": {"a": 1}}', "user_properties is neither"),
        ('{"topic": "a", "payload": "1", "user_properties": [["a"]]}', "user_properties is neither"),
        ('{"topic": "a", "payload": "1", "user_properties": "a=b"}', "user_properties is neither"),
        (
            '{"topic": "a", "payload": "1", "received_at": "2026-01-02T03:04:05"}',
            "received_at '2026-01-02T03:04:05' is no",
        ),
        ('{"topic": "a", "payload": "1", "received_at": "yesterday"}', "received_at 'yesterday' is no RFC 3339 time"),
    ],
)
def test_a_line_that_is_not_a_sample_has_its_reason(line: str, reason: str) -> None:
    assert complaint(line).startswith(reason)


def test_a_dead_letter_as_it_was_exported_is_a_sample() -> None:
    letter = StoredLetter(
        id=0,
        sha256=b"",
        state="parked",
        reason="type",
        errno=None,
        device=None,
        first_seen=1.0,
        last_seen=2.5,
        seen=2,
        attempts=0,
        next_retry_at=0.0,
        refused_at=2.5,
        qos=1,
        topic="meters/7/power",
        message="the payload is a number",
        properties={"content_type": "text/plain"},
        history=[],
        size=5,
        payload=b"231.7",
    )
    assert parse_sample(letter_to_line(letter)) == Delivery(
        "meters/7/power", b"231.7", 1, 1.0, None, {"content_type": "text/plain"}
    )
    assert "state" in complaint(b'{"letter": 1}')


def test_bad_lines_have_their_number_and_the_others_are_read_all_the_same() -> None:
    good = b'{"topic": "a", "payload": "1"}\n'
    deep = b'{"topic": "a", "payload": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    lines = good + b"\n  \nno\n" + deep + b" " * (2 * MAX_LINE_BYTES) + b"\n" + good.strip()
    first, second, third, fourth, last = read_samples(io.BytesIO(lines))
    assert isinstance(first, Sample)
    assert isinstance(last, Sample)
    assert (first.line, last.line) == (1, 7)
    assert isinstance(second, BadSampleLine)
    assert second.line == 4
    assert third == BadSampleLine(5, "it is nested too deeply")
    assert fourth == BadSampleLine(6, f"it has more than {MAX_LINE_BYTES} bytes")


@given(st.binary())
def test_any_bytes_are_samples_or_bad_lines(content: bytes) -> None:
    lines = [line for line in content.split(b"\n") if line.strip()]
    assert len(list(read_samples(io.BytesIO(content)))) == len(lines)
