"""`csv`: lines of fields."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.mapping.model import MAX_ROWS, FormatSpec
from tests.unit.messages.mapping.formats.parsing import parse, rejected

HEADED = FormatSpec("csv")
NAMED = FormatSpec("csv", columns=("time", "celsius"))
_fields = st.text().map(str.strip)


def test_the_first_line_names_the_columns() -> None:
    assert parse(HEADED, "time,celsius\n10:00,21.5\n10:01,21.6\n") == [
        {"time": "10:00", "celsius": "21.5"},
        {"time": "10:01", "celsius": "21.6"},
    ]


def test_configured_columns_make_the_first_line_a_record() -> None:
    assert parse(NAMED, "10:00,21.5") == [{"time": "10:00", "celsius": "21.5"}]


@pytest.mark.parametrize("delimiter", [";", "\t", "|", " "])
def test_the_delimiter_is_configured(delimiter: str) -> None:
    spec = FormatSpec("csv", delimiter, ("a", "b", "c"))

    assert parse(spec, f'1{delimiter}{delimiter}"x{delimiter}y"') == [{"a": "1", "b": "", "c": f"x{delimiter}y"}]


def test_quoted_fields_may_have_delimiters_quotation_marks_and_line_breaks() -> None:
    assert parse(NAMED, '"a, ""b""\n2", 5\r\n') == [{"time": 'a, "b"\n2', "celsius": "5"}]


def test_blanks_around_fields_and_empty_lines_are_ignored() -> None:
    assert parse(HEADED, "\n a , b\r\n\r\n1 ,\t2\n  \n") == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_lines_may_have_any_line_ending(line_break: str) -> None:
    assert parse(HEADED, line_break.join(["a", "1", "2"])) == [{"a": "1"}, {"a": "2"}]


def test_a_line_of_empty_fields_is_a_record() -> None:
    assert parse(NAMED, ",\n") == [{"time": "", "celsius": ""}]


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("a,b\n1,2\n3\n", "line 3: 1 field, but there are 2 columns"),
        ("a,b\n1,2,3\n", "line 2: 3 fields, but there are 2 columns"),
        ('a,b\n"1,2\n', "line 2: unexpected end of data"),
        ('a,b\n1,2\n"x"y,2\n', "line 3: ',' expected after '\"'"),
        ("a,a\n1,2\n", "the first line, which names the columns, has a name twice"),
        ("a,,c\n1,2,3\n", "the first line, which names the columns, leaves one without a name"),
        ("a,b\n", "the payload has no record"),
        (" \n\n", "the payload is empty"),
    ],
)
def test_invalid_csv_is_refused_and_the_line_is_named(payload: str, message: str) -> None:
    assert rejected(HEADED, payload) == ("format", message)


def test_bytes_that_are_not_text_are_refused() -> None:
    assert rejected(HEADED, b"a\n\xff").reason == "encoding"


def test_a_field_larger_than_the_reader_takes_is_refused() -> None:
    assert rejected(HEADED, "a\n" + "x" * 200_000).reason == "format"


def test_there_are_as_many_records_as_a_message_may_have_and_no_more() -> None:
    assert len(parse(HEADED, "a\n" + "1\n" * MAX_ROWS)) == MAX_ROWS
    assert rejected(HEADED, "a\n" + "1\n" * (MAX_ROWS + 1)) == (
        "too_large",
        f"line {MAX_ROWS + 2}: a message may have {MAX_ROWS} records at most",
    )


@given(st.lists(st.tuples(_fields, _fields), min_size=1))
def test_written_csv_is_read_again(lines: list[tuple[str, str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(lines)

    assert parse(NAMED, text.getvalue()) == [{"time": first, "celsius": second} for first, second in lines]
