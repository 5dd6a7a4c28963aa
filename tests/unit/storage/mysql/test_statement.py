"""The upsert's text: which rows are in it, in which order, how values are said, where it is split."""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Sequence
from typing import get_args

import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.pipeline.contract import Reading
from sensorsync.storage.mysql.statement import (
    ConflictPolicy,
    RowFormatter,
    build_statements,
    distinct,
    text_literal,
    upsert_suffix,
)
from tests.rows import ARRIVAL, reading, readings

POLICIES: Sequence[ConflictPolicy] = get_args(ConflictPolicy)
overlapping = st.lists(
    st.builds(
        lambda number, arrival, value: reading(number, received_at=ARRIVAL + arrival, value=float(value)),
        st.integers(0, 5),
        st.integers(0, 4),
        st.integers(),
    ),
    max_size=30,
)


def key(row: Reading) -> tuple[str, str, str, bytes]:
    return (row.device_id, row.metric, row.ts, row.event_id)


@given(overlapping, st.sampled_from(POLICIES))
def test_each_key_is_there_once_and_in_order(batch: list[Reading], policy: ConflictPolicy) -> None:
    keys = [key(row) for row in distinct(batch, policy)]
    assert keys == sorted({key(row) for row in batch})


@given(overlapping)
def test_first_keeps_the_first_of_a_key_and_last_the_last(batch: list[Reading]) -> None:
    assert distinct(batch, "first") == distinct(batch[::-1], "last")
    for row in distinct(batch, "first"):
        assert row is next(other for other in batch if key(other) == key(row))


@given(overlapping)
def test_newest_keeps_the_latest_arrival_and_on_a_tie_the_first(batch: list[Reading]) -> None:
    for row in distinct(batch, "newest"):
        same = [other for other in batch if key(other) == key(row)]
        assert row is max(same, key=lambda other: other.received_at)  # max() returns the first of equals


def meaning(literal: str) -> str:
    """Return the text of a literal, as MySQL reads it under every sql_mode ("String Literals" in the manual)."""
    if literal.startswith("'"):
        text = literal[1:-1]
        assert literal[-1] == "'"
        assert not {"'", "\\", "\0"}.intersection(text)
        return text
    before, digits, after = literal.split("'")
    decoded = {"_utf8mb4 X": bytes.fromhex, "CONVERT(FROM_BASE64(": b64decode}[before](digits)
    assert after == (")USING utf8mb4)" if before.startswith("CONVERT") else "")
    return decoded.decode()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_comes_out_as_it_went_in(text: str) -> None:
    # Given: a payload is the last value of a row, so that its literal is easy to find.
    (row,) = RowFormatter().format_rows([reading(payload=text, topic="t", device_id="d")])
    literal = row[row.index("'2026-01-02 03:00:00.250000',") + len("'2026-01-02 03:00:00.250000',") : -1]
    assert meaning(literal) == text
    assert meaning(text_literal(text)) == text


@pytest.mark.parametrize("text", ["\\" * 70_000, "x'" * 40_000, "°" * 40_000 + "'"])
def test_a_long_text_grows_by_a_third_only(text: str) -> None:
    literal = text_literal(text)
    assert meaning(literal) == text
    assert len(literal) < len(text.encode()) * 4 / 3 + 50


@pytest.mark.parametrize("bad", ["it's", "\\", "\0"])
def test_one_text_that_needs_digits_leaves_the_others_of_its_batch_as_they_are(bad: str) -> None:
    first, changed, last = RowFormatter().format_rows([reading(1), reading(2, payload=bad), reading(3)])
    assert [first, last] == RowFormatter().format_rows([reading(1), reading(3)])
    assert changed.endswith(f",_utf8mb4 X'{bad.encode().hex()}')")


def test_a_row_has_every_value_in_its_column() -> None:
    (row,) = RowFormatter().format_rows([reading(7, value=21.5, value_text="it's", unit=None, payload='{"a":"\\n"}')])
    assert row == (
        "('run-1','temperature','2026-01-02 03:04:05.000007',X'00000000000000000000000000000007',21.5e0,_utf8mb4 X'69742773',NULL,"
        "'sensors/live/stress_test','2026-01-02 03:00:00.250000',_utf8mb4 X'7b2261223a225c6e227d')"
    )


def test_texts_that_repeat_are_remembered_but_not_confused() -> None:
    writer = RowFormatter()
    twice = writer.format_rows([reading(unit=None, value=None), reading(unit="'", value=None)])
    assert twice == [
        *writer.format_rows([reading(unit=None, value=None)]),
        *writer.format_rows([reading(unit="'", value=None)]),
    ]
    assert "NULL,NULL,NULL" in twice[0]
    assert "NULL,NULL,_utf8mb4 X'27'" in twice[1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01 00:00:00.000000"),
        (1.9999999, "1970-01-01 00:00:02.000000"),  # rounding carries into the second
        (1_767_322_800.000001, "2026-01-02 03:00:00.000001"),
        (-0.5, "1969-12-31 23:59:59.500000"),
    ],
)
def test_an_arrival_is_written_in_utc_with_six_digits(seconds: float, text: str) -> None:
    (row,) = RowFormatter().format_rows([reading(received_at=seconds)])
    assert f"'{text}'" in row


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_has_no_sql_literal_is_an_error(value: float) -> None:
    with pytest.raises(pymysql.ProgrammingError):
        RowFormatter().format_rows([reading(value=value)])


@given(st.integers(1, 40), st.integers(60, 4000), st.integers(1, 50))
def test_a_split_loses_no_row_and_keeps_to_its_bounds(count: int, spare: int, most: int) -> None:
    # Given
    rows, suffix = RowFormatter().format_rows(readings(count)), upsert_suffix("first", row_alias=False)
    bound = len(rows[0].encode()) + 120 + len(suffix) + spare
    # When
    parts = build_statements(rows, suffix, max_bytes=bound, max_rows=most)
    # Then
    assert parts is not None
    assert all(len(part) <= bound for part in parts)
    bodies = [part.partition(b"VALUES")[2].removesuffix(suffix).decode() for part in parts]
    assert ",".join(bodies) == ",".join(rows)
    assert all(body.count("X'") <= most for body in bodies)


def test_a_row_that_alone_is_too_long_has_no_statement() -> None:
    rows = RowFormatter().format_rows([reading(0), reading(1, payload="x" * 5000), reading(2)])
    assert build_statements(rows, b"", max_bytes=4096, max_rows=10) is None


def test_a_row_that_is_longer_than_a_good_statement_goes_alone() -> None:
    rows = RowFormatter().format_rows([reading(0), reading(1, payload="x" * 10_000_000), reading(2)])
    parts = build_statements(rows, b"", max_bytes=2**26, max_rows=10)
    assert parts is not None
    assert [part.count(b"X'") for part in parts] == [1, 1, 1]


@pytest.mark.parametrize("policy", ["last", "newest"])
@pytest.mark.parametrize("alias", [True, False])
def test_no_policy_ever_updates_the_first_arrival(policy: ConflictPolicy, alias: bool) -> None:
    suffix = upsert_suffix(policy, row_alias=alias).decode()
    assignments = suffix.partition("UPDATE ")[2]
    assert "received_at=" not in assignments
    assert assignments.rfind("revised_at=") > assignments.rfind("payload=")  # assignments see those before them
    assert ("AS new" in suffix, "VALUES(" in suffix) == (alias, not alias)
