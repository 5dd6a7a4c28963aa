"""`influx`: InfluxDB's line protocol."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.mapping.formats.influx import Scalar
from sensorsync.messages.mapping.model import MAX_ROWS, FormatSpec
from tests.unit.messages.mapping.formats.parsing import parse, rejected

INFLUX = FormatSpec("influx")

_name = st.text(st.characters(codec="utf-8", exclude_characters="\n\\"), min_size=1)
_text = st.text(st.characters(codec="utf-8", exclude_characters="\n"))
_scalar = st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | _text | st.integers(-(2**63), 2**63 - 1)
_time = st.none() | st.integers(-(2**63) + 2, 2**63 - 2)


def values(fields: str) -> dict[str, Any]:
    return {record["field"]: record["value"] for record in parse(INFLUX, f"m {fields}")}


def fault(payload: str) -> str:
    found = rejected(INFLUX, payload)
    assert found.reason == "format"
    return found.message


def test_each_field_of_a_line_is_a_record() -> None:
    tags = {"tag1": "value1", "tag2": "value2"}

    assert parse(INFLUX, 'myMeasurement,tag1=value1,tag2=value2 a="text",b=1.5 1556813561098000000') == [
        {"measurement": "myMeasurement", "tags": tags, "field": "a", "value": "text", "time": 1556813561098000000},
        {"measurement": "myMeasurement", "tags": tags, "field": "b", "value": 1.5, "time": 1556813561098000000},
    ]


def test_tags_and_the_time_may_be_missing() -> None:
    assert parse(INFLUX, "m v=1") == [{"measurement": "m", "tags": {}, "field": "v", "value": 1.0, "time": None}]


def test_lines_give_their_records_in_order_past_comments_and_empty_lines() -> None:
    payload = "# a comment\n\n  m a=1,b=2\r\n\t# m v=9\n \nm a=3 5  \n"

    assert [(record["field"], record["value"], record["time"]) for record in parse(INFLUX, payload)] == [
        ("a", 1, None),
        ("b", 2, None),
        ("a", 3, 5),
    ]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1.0),
        ("-1.234456e+78", -1.234456e78),
        ("1.", 1.0),
        (".5", 0.5),
        ("12485903i", 12485903),
        ("-9223372036854775808i", -(2**63)),
        ("18446744073709551615u", 2**64 - 1),
        *((word, True) for word in ("t", "T", "true", "True", "TRUE")),
        *((word, False) for word in ("f", "F", "false", "False", "FALSE")),
        ('""', ""),
        ('"true"', "true"),
        (r'"\"string\" within a string"', '"string" within a string'),
        (r'"a\\b\n, c=d"', r"a\b\n, c=d"),
        ('"Launch 🚀"', "Launch 🚀"),
    ],
)
def test_a_value_has_the_type_that_it_is_written_in(written: str, value: Scalar) -> None:
    found = values(f"v={written}")["v"]

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("written", "read"),
    [("\\" * 2, "\\"), ("\\" * 4, "\\" * 2), ("\\" * 3 + "x", "\\" * 2 + "x"), ("\\x", "\\x"), ('\\\\\\"', '\\"')],
)
def test_backslashes_of_a_text_are_read_as_influxdb_reads_them(written: str, read: str) -> None:
    assert values(f'v="{written}"') == {"v": read}


def test_names_may_have_escaped_characters() -> None:
    record = parse(INFLUX, r'my\ Mea\,s=u"re,tag\ Key\=1=tag\ Va\,l\=ue f\ \=\,x=100')[0]

    assert record == {
        "measurement": 'my Mea,s=u"re',
        "tags": {"tag Key=1": "tag Va,l=ue"},
        "field": "f =,x",
        "value": 100.0,
        "time": None,
    }


def test_a_backslash_before_another_character_of_a_name_is_one() -> None:
    record = parse(INFLUX, r"m\=\x,C:\dir=\\y f\n=1")[0]

    assert (record["measurement"], record["tags"], record["field"]) == (r"m\=\x", {r"C:\dir": r"\\y"}, r"f\n")


@pytest.mark.parametrize(
    ("precision", "written", "time"),
    [
        ("ns", "1556813561098000001", 1556813561098000001),
        ("us", "1556813561098000", 1556813561098000000),
        ("ms", "1556813561098", 1556813561098000000),
        ("s", "-5", -5_000_000_000),
    ],
)
def test_times_are_nanoseconds_whatever_they_are_written_in(precision: Any, written: str, time: int) -> None:
    assert parse(FormatSpec("influx", precision=precision), f"m v=1 {written}")[0]["time"] == time


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("m", "a comma or a blank is expected at character 1"),
        (",t=1 v=1", "the measurement is missing"),
        ("m v=1,", "a field (key=value) is expected at character 6"),
        ("m v", "a field (key=value) is expected at character 2"),
        ("m =1", "a field (key=value) is expected at character 2"),
        ("m,t v=1", "a tag (key=value) is expected at character 2"),
        ("m, v=1", "a tag (key=value) is expected at character 2"),
        ("m,t= v=1", "the tag 't' is empty"),
        ("m,t=a=b v=1", "a comma or a blank is expected at character 5"),
        ("m,t=1,t=1 v=1", "the tag 't' occurs twice"),
        ("m v=1,v=2", "the field 'v' occurs twice"),
        ("m v=", "the field 'v' is empty"),
        ("m v=,w=1", "the field 'v' is empty"),
        ('m v="abc', "the text of the field 'v' does not end on its line"),
        ('m v="a\nb"', "the text of the field 'v' does not end on its line"),
        ('m v="a\\"', "the text of the field 'v' does not end on its line"),
        ('m v="a"b', "a comma or a blank is expected at character 7"),
        ("m v=1 5 6", "'5 6' is no time stamp"),
        ("m v=1 5.5", "'5.5' is no time stamp"),
        ("m v=1 9223372036854775807", "the time stamp '9223372036854775807' is out of range"),
        ("m v=1 " + "9" * 30, f"the time stamp '{'9' * 30}' is out of range"),
        ("m v=9223372036854775808i", "the field 'v' is '9223372036854775808i', which is out of range"),
        ("m v=-1u", "the field 'v' is '-1u', which is out of range"),
        ("m v=" + "9" * 21 + "i", f"the field 'v' is '{'9' * 21}i', which is out of range"),
        *(
            (f"m v={text}", f"the field 'v' is '{text}': neither a number, true, false nor a text in double quotes")
            for text in ("nan", "inf", "+1", "1_0", "0x10", "tRue", "on", "i", "1.5i", "٣", "1e")
        ),
    ],
)
def test_invalid_line_protocol_is_refused_and_the_line_is_named(line: str, message: str) -> None:
    assert fault(f"# first\nm v=1\n{line}\n") == f"line 3: {message}"


@pytest.mark.parametrize("payload", ["", "\n \n", "# a comment"])
def test_a_payload_without_a_point_is_refused(payload: str) -> None:
    assert fault(payload) == "the payload has no point"


def test_times_are_bounded_as_nanoseconds() -> None:
    assert rejected(FormatSpec("influx", precision="s"), "m v=1 9223372037").message.endswith("is out of range")


def test_a_number_beyond_a_double_is_refused() -> None:
    assert rejected(INFLUX, "m v=1e400") == ("nan", "line 1: the field 'v' is beyond the range of a double")


def test_bytes_that_are_not_text_are_refused() -> None:
    assert rejected(INFLUX, b'm v="\xff"').reason == "encoding"


def test_there_are_as_many_records_as_a_message_may_have_and_no_more() -> None:
    assert len(parse(INFLUX, "m a=1,b=2\n" * (MAX_ROWS // 2))) == MAX_ROWS
    assert rejected(INFLUX, "m a=1,b=2\n" * (MAX_ROWS // 2) + "m a=1") == (
        "too_large",
        f"line {MAX_ROWS // 2 + 1}: a message may have {MAX_ROWS} fields at most",
    )


# -- round trips -------------------------------------------------------------------------------------------------------


def written_name(name: str, special: str = ",= ") -> str:
    return re.sub(f"([{special}])", r"\\\1", name)


def written(value: Scalar) -> str:
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value}i"
    if isinstance(value, float):
        return repr(value)
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def starts_a_line(measurement: str) -> bool:
    return measurement == measurement.lstrip(" \t\r") and not measurement.startswith("#")


@given(
    _name.filter(starts_a_line),
    st.dictionaries(_name, _name),
    st.dictionaries(_name, _scalar, min_size=1),
    _time,
)
def test_a_written_line_is_read_again(
    measurement: str, tags: dict[str, str], fields: dict[str, Scalar], time: int | None
) -> None:
    line = written_name(measurement, ", ")
    line += "".join(f",{written_name(key)}={written_name(value)}" for key, value in tags.items())
    line += " " + ",".join(f"{written_name(key)}={written(value)}" for key, value in fields.items())
    line += "" if time is None else f" {time}"

    assert parse(INFLUX, line) == [
        {"measurement": measurement, "tags": tags, "field": field, "value": value, "time": time}
        for field, value in fields.items()
    ]
