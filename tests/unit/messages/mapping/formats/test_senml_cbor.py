"""`senml`: RFC 8428 in CBOR, and the features of CBOR that are refused."""

from __future__ import annotations

import json
import tracemalloc
from decimal import Decimal
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.mapping.model import FormatSpec
from sensorsync.messages.reading import Rejected
from tests.unit.messages.mapping.formats.parsing import parse, rejected

SENML = FormatSpec("senml")

RFC_DUMP = bytes.fromhex(
    "87a721781b75726e3a6465763a6f773a"
    "3130653230373361303130383030363a"
    "22fb41d303a15b001062236141200500"
    "67766f6c7461676501615602fb405e06"
    "6666666666a3006763757272656e7406"
    "2402fb3ff3333333333333a300676375"
    "7272656e74062302fb3ff4cccccccccc"
    "cda3006763757272656e74062202fb3f"
    "f6666666666666a3006763757272656e"
    "74062102f93e00a3006763757272656e"
    "74062002fb3ff999999999999aa30067"
    "63757272656e74060002fb3ffb333333"
    "333333"
)  # fmt: skip
"""RFC 8428, section 6."""
LABELS = {
    "bs": -6, "bv": -5, "bu": -4, "bt": -3, "bn": -2, "bver": -1,
    "n": 0, "u": 1, "v": 2, "vs": 3, "vb": 4, "s": 5, "t": 6, "ut": 7, "vd": 8,
}  # fmt: skip

_number = st.integers(-(2**40), 2**40) | st.floats(-1e9, 1e9)
_text = st.text(max_size=5)
_value = st.one_of(
    st.fixed_dictionaries({"v": _number}),
    st.fixed_dictionaries({"vs": _text}),
    st.fixed_dictionaries({"vb": st.booleans()}),
)
_fields = st.fixed_dictionaries(
    {},
    optional={
        "bn": st.just("b:"),
        "bt": _number,
        "bu": _text,
        "bv": _number,
        "bs": _number,
        "n": st.just("n"),
        "u": _text,
    }
    | {"s": _number, "t": _number, "ut": _number},
)
_pack = st.lists(
    st.builds(lambda value, fields: {"n": "a", **fields, **value}, _value, _fields), min_size=1, max_size=5
)


def in_cbor(pack: list[dict[str, Any]]) -> bytes:
    return cbor2.dumps([{LABELS.get(label, label): value for label, value in record.items()} for record in pack])


def test_the_dump_of_the_rfc_is_read_as_its_json_example() -> None:
    base = "urn:dev:ow:10e2073a0108006:"

    assert [(each["name"], each["u"], each["t"], each["value"]) for each in parse(SENML, RFC_DUMP)] == [
        (f"{base}voltage", "V", 1276020076.001, 120.1),
        (f"{base}current", "A", 1276020071.001, 1.2),
        (f"{base}current", "A", 1276020072.001, 1.3),
        (f"{base}current", "A", 1276020073.001, 1.4),
        (f"{base}current", "A", 1276020074.001, 1.5),
        (f"{base}current", "A", 1276020075.001, 1.6),
        (f"{base}current", "A", 1276020076.001, 1.7),
    ]


@given(_pack)
def test_a_pack_in_cbor_resolves_as_the_same_pack_in_json(pack: list[dict[str, Any]]) -> None:
    assert parse(SENML, in_cbor(pack)) == parse(SENML, json.dumps(pack))


def test_bytes_become_base64url_without_padding_as_in_json() -> None:
    assert parse(SENML, in_cbor([{"n": "a", "vd": b"hi \n\xff\xfe"}]))[0]["value"] == "aGkgCv_-"


def test_numbers_may_be_decimal_fractions() -> None:
    assert parse(SENML, in_cbor([{"n": "a", "v": Decimal("273.15")}]))[0]["value"] == 273.15


def test_the_array_may_be_of_indefinite_length_and_marked_as_cbor() -> None:
    payload = bytes.fromhex("d9d9f7") + b"\x9f" + cbor2.dumps({0: "a", 2: 1}) + b"\xff"

    assert parse(SENML, payload) == [{"name": "a", "n": "a", "t": 0, "v": 1, "value": 1}]


def test_labels_that_are_not_known_are_left_out_unless_they_must_be_understood() -> None:
    assert parse(SENML, cbor2.dumps([{0: "a", 2: 1, 99: "x", "ct": b"60", (1, 2): 3}])) == [
        {"name": "a", "n": "a", "t": 0, "v": 1, "value": 1}
    ]
    assert "must be understood" in rejected(SENML, cbor2.dumps([{0: "a", 2: 1, "ct_": 60}])).message


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({0: "a", 8: "aGk"}, "vd is a string, not a byte string"),
        ({0: b"a", 2: 1}, "n is bytes, not a string"),
        ({0: "a", 2: cbor2.undefined}, "v is UndefinedType, not a number"),
        ({0: "a", 2: cbor2.CBORSimpleValue(99)}, "v is CBORSimpleValue, not a number"),
        ({0: "a", 2: 1, 1: ["V"]}, "u is an array, not a string"),
    ],
)
def test_fields_of_another_type_are_refused(item: Any, message: str) -> None:
    found = rejected(SENML, cbor2.dumps([item]))

    assert found.reason == "format"
    assert message in found.message


@pytest.mark.parametrize("number", ["f97e00", "f97c00", "faff800000", "c4821a7fffffff01"])
def test_a_number_that_is_nan_or_infinite_is_refused(number: str) -> None:
    assert rejected(SENML, bytes.fromhex("81a200616102" + number)).reason == "nan"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("c074323032362d30312d30325430333a30343a30355a", "tag 0"),  # a date
        ("c249ffffffffffffffffff", "tag 2"),  # a large integer
        ("c5820101", "tag 5"),  # a number in powers of 2
        ("d81c80", "tag 28"),  # something to be referred to
        ("d81d00", "tag 29"),  # a reference
        ("d8236128", "tag 35"),  # a regular expression
        ("d8246161", "tag 36"),  # e-mail
        ("d9010080", "tag 256"),  # texts to be referred to
        ("d9010280", "tag 258"),  # a set
        ("db000000010000000000", "tag 4294967296"),
    ],
)
def test_tags_that_senml_does_not_use_are_refused(item: str, message: str) -> None:
    found = rejected(SENML, b"\x81\xa1\x02" + bytes.fromhex(item))

    assert found.reason == "format"
    assert message in found.message


@pytest.mark.parametrize("pair", ["8101", "830a0b0c", "82016161", "01", "f6"])
def test_a_decimal_fraction_of_something_else_is_refused(pair: str) -> None:
    assert rejected(SENML, bytes.fromhex("81a102c4" + pair)).reason == "format"


def test_cbor_that_ends_early_or_goes_on_is_refused() -> None:
    for length in range(1, len(RFC_DUMP)):
        assert rejected(SENML, RFC_DUMP[:length]).reason == "format"
    assert rejected(SENML, RFC_DUMP + b"\0") == (
        "format",
        f"the payload goes on after its CBOR ends (byte {len(RFC_DUMP)})",
    )


def test_text_that_is_not_utf8_is_refused() -> None:
    assert "utf-8" in rejected(SENML, bytes.fromhex("81a20061ff0201")).message


@pytest.mark.parametrize("payload", [b"\x81" * 262_144, b"\xd9\xd9\xf7" * 80_000, b"\x81\xa1\x00" * 80_000])
def test_nesting_has_a_bound(payload: bytes) -> None:
    assert rejected(SENML, payload).reason == "nesting"


def test_a_map_as_a_label_is_as_deep_as_it_is() -> None:
    assert rejected(SENML, b"\xa1" * 262_144).reason == "nesting"


@pytest.mark.parametrize("head", ["9b", "bb", "815b", "817b", "9f9b", "815f5b", "817f7b"])
def test_a_length_that_is_only_claimed_allocates_no_memory(head: str) -> None:
    payload = bytes.fromhex(head + "00ffffffffffffff") + b"\0" * 1000
    tracemalloc.start()
    try:
        outcome = parse(SENML, payload)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert isinstance(outcome, Rejected)
    assert peak < 2**20


def test_json_is_never_taken_for_cbor() -> None:
    assert parse(SENML, b' \n[{"n": "a", "v": 1}]')[0]["value"] == 1
    assert rejected(SENML, cbor2.dumps({0: "a", 2: 1})).message == "a SenML pack is an array of records, not an object"
