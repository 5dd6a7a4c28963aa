"""`value`: a bare number or a bare text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.mapping.model import FormatSpec
from tests.unit.messages.mapping.formats.parsing import parse, rejected

VALUE = FormatSpec("value")


@pytest.mark.parametrize(
    ("payload", "document"),
    [
        ("231.7", 231.7),
        ("12", 12),
        ("-0.5e-3", -0.0005),
        (" 21.5\r\n", 21.5),
        ("21.5\0", 21.5),
        ("18446744073709551616", 18446744073709551616.0),
    ],
)
def test_a_json_number_is_a_number(payload: str, document: float) -> None:
    found = parse(VALUE, payload)

    assert found == document
    assert type(found) is type(document)


@pytest.mark.parametrize(
    "payload",
    [
        "ON", "true", "null", "nan", "-inf", "+5", "007", ".5", "5.", "1_000", "0x1F", "12 V", "1,5", "-", "2026-01-02T03:04:05Z",
        "٣", "{}", "[1]", "grün", "1e",
    ],
)  # fmt: skip
def test_everything_else_is_the_text_that_it_is(payload: str) -> None:
    assert parse(VALUE, payload) == payload


def test_a_quoted_text_is_its_content() -> None:
    assert parse(VALUE, r'"on\u00e9 \"x\" "') == 'oné "x" '
    assert parse(VALUE, '"21.5"') == "21.5"


def test_a_text_that_only_begins_with_a_quotation_mark_stays_as_it_is() -> None:
    assert parse(VALUE, '"a" and "b"') == '"a" and "b"'
    assert parse(VALUE, '"') == '"'


def test_blanks_within_a_text_stay() -> None:
    assert parse(VALUE, "  front  door ") == "front  door"


@pytest.mark.parametrize("payload", ["", " ", "\r\n\t", "\0"])
def test_a_payload_of_blanks_is_not_a_value(payload: str) -> None:
    assert rejected(VALUE, payload) == ("format", "the payload is empty")


@pytest.mark.parametrize("payload", ["1e400", "-1e400", "9" * 400])
def test_a_number_beyond_a_double_is_refused(payload: str) -> None:
    assert rejected(VALUE, payload).reason == "nan"


def test_bytes_that_are_not_text_are_refused() -> None:
    assert rejected(VALUE, b"21.5\xb0C") == ("encoding", "the payload is not UTF-8 (byte 4)")


@given(st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_written_as_json_is_read_again(number: float) -> None:
    assert parse(VALUE, json.dumps(number)) == number


@given(st.text())
def test_a_text_written_as_json_is_read_again(text: str) -> None:
    assert parse(VALUE, json.dumps(text)) == text
