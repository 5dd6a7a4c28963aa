"""The upsert of a table of the user's own: which rows are in it, in which order, how names and values are said."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.reading import Column, TableRow, TargetTable
from sensorsync.storage.mysql.target_upsert import TargetUpsert
from tests.target_tables import STATE, first, state

STATES = st.lists(st.builds(lambda n, v: state(n, celsius=float(v)), st.integers(0, 5), st.integers()), max_size=30)
ONE = TargetTable("t", (Column("k", "text"), Column("v", None)), key=("k",), conflict="last")


def key(row: TableRow) -> tuple[Any, ...]:
    return tuple(row.values[place] for place in row.table.key_places)


def said(value: Any) -> str:
    """The literal of a value."""
    (row,) = TargetUpsert(ONE).format_rows([TableRow(ONE, ("k", value), None)])
    return row.removeprefix("('k',").removesuffix(")")


@given(STATES)
def test_each_key_is_there_once_in_order_and_the_policy_selects_the_row(batch: list[TableRow]) -> None:
    for table, newest in ((STATE, -1), (first(STATE), 0)):
        chosen = TargetUpsert(table).distinct(batch)
        assert [key(row) for row in chosen] == sorted({key(row) for row in batch})
        for row in chosen:
            assert row is [other for other in batch if key(other) == key(row)][newest]


def test_a_statement_names_the_table_and_its_columns_in_backticks() -> None:
    table = TargetTable("a`b", (Column("v`", "number"), Column("k", "text")), key=("k",))
    upsert = TargetUpsert(table)
    assert upsert.prefix == b"INSERT INTO `a``b`(`v```,`k`)VALUES"
    assert upsert.suffix(row_alias=False) == (
        b"ON DUPLICATE KEY UPDATE `k`=IF(`a``b`.`k`<=>VALUES(`k`),`a``b`.`k`,NULL)"
    )


def test_a_time_is_not_what_guards_the_key_unless_it_is_all_of_it() -> None:
    machines = replace(STATE, key=("at", "machine"), conflict="first")
    assert (
        TargetUpsert(machines)
        .suffix(row_alias=False)
        .startswith(b"ON DUPLICATE KEY UPDATE `machine`=IF(`machine_state`.`at`<=>")
    )
    times = replace(STATE, key=("at",), conflict="first")
    assert TargetUpsert(times).suffix(row_alias=False) == (
        b"ON DUPLICATE KEY UPDATE `at`=IF(1 DIV(`machine_state`.`at`<=>VALUES(`at`)),`machine_state`.`at`,NULL)"
    )


@pytest.mark.parametrize("alias", [True, False])
def test_last_updates_every_column_but_the_key_and_first_none(alias: bool) -> None:
    suffix = TargetUpsert(STATE).suffix(row_alias=alias).decode()
    new = "sensorsync_new.`{}`".format if alias else "VALUES(`{}`)".format
    assert suffix.startswith("AS sensorsync_new ON" if alias else "ON")
    changed = [column.name for column in STATE.columns if f",`{column.name}`={new(column.name)}" in suffix]
    assert changed == [column.name for column in STATE.columns if column.name not in STATE.key]
    unchanged = TargetUpsert(first(STATE)).suffix(row_alias=alias).decode()
    assert unchanged == suffix.partition(f",`celsius`={new('celsius')}")[0]
    assert unchanged.endswith("`machine_state`.`machine`,NULL)")


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (None, "NULL"),
        (True, "TRUE"),
        (False, "FALSE"),
        (-7, "-7"),
        (2**63, "9223372036854775808"),
        (21.5, "21.5e0"),
        (1e300, "1e+300"),
        (bytes(range(16)), "X'000102030405060708090a0b0c0d0e0f'"),
        ("it's", "_utf8mb4 X'69742773'"),
        ("2026-01-02 03:04:05.123456", "'2026-01-02 03:04:05.123456'"),
    ],
)
def test_every_kind_of_value_has_its_literal(value: Any, literal: str) -> None:
    assert said(value) == literal


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, 10**65, -(10**65), pytest.param(10**5000, id="digits"), [1], {"a": 1}]
)
def test_a_value_that_has_no_literal_is_an_error(value: Any) -> None:
    """More than 65 digits: both servers would store another number, with a warning."""
    with pytest.raises((ValueError, TypeError, pymysql.ProgrammingError)):
        said(value)


def test_the_tables_of_two_policies_are_not_confused() -> None:
    upserts = [TargetUpsert(table) for table in (STATE, first(STATE), replace(STATE, key=("message",)))]
    assert len({upsert.suffix(row_alias=True) for upsert in upserts}) == 3
    assert [upsert.no_op for upsert in upserts] == [False, True, False]
