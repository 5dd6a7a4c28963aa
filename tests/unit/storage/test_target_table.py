"""Rows sorted out by table, and the sentences about a table that is not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.reading import Column, TargetTable
from sensorsync.messages.reading.rows import ColumnKind
from sensorsync.pipeline.contract import Row
from sensorsync.storage.mysql.target_tables import MySqlDialect
from sensorsync.storage.target_table import ColumnInfo, TableInfo, UniqueKeyInfo, differences, group_by_table, warnings
from tests.rows import reading
from tests.target_tables import ALARMS, STATE, alarm, state

TABLE = TargetTable("t", (Column("k", "text"), Column("at", "time"), Column("v", "number")), key=("k", "at"))
FIT = TableInfo(
    (
        ColumnInfo("k", "varchar(64)", nullable=False, has_default=False, collation="utf8mb4_bin"),
        ColumnInfo("at", "datetime(6)", nullable=False, has_default=False),
        ColumnInfo("v", "double"),
    ),
    (UniqueKeyInfo("PRIMARY", ("k", "at")),),
)
rows = st.lists(
    st.builds(lambda make, number: make(number), st.sampled_from([reading, state, alarm]), st.integers(0, 9))
)


@given(rows)
def test_a_batch_is_sorted_out_by_table_in_the_order_of_their_names(batch: list[Row]) -> None:
    groups = group_by_table(batch)
    names = ["sensor_readings" if group.table is None else group.table.name for group in groups]
    assert names == sorted(set(names))
    for table, found in groups:
        assert found == [row for row in batch if getattr(row, "table", None) is table]
    assert sum(len(found) for _, found in groups) == len(batch)


def test_a_group_is_made_for_a_table_and_not_for_a_name() -> None:
    other = replace(STATE)
    assert [group.table for group in group_by_table([state(1), state(1, other), alarm(1)])] == [ALARMS, STATE, other]


def said(found: TableInfo | None, table: TargetTable = TABLE) -> list[str]:
    return differences(table, found, MySqlDialect())


def with_columns(*columns: ColumnInfo, keys: Sequence[UniqueKeyInfo] = ()) -> TableInfo:
    """The table that is fit, with other columns of these names, or more, and more keys."""
    names = {column.name: column for column in columns}
    kept = [names.pop(column.name, column) for column in FIT.columns]
    return TableInfo((*kept, *names.values()), (*FIT.keys, *keys))


def test_a_table_that_is_fit_has_no_differences() -> None:
    assert said(FIT) == []
    assert warnings(TABLE, FIT, MySqlDialect()) == []


def test_a_name_knows_no_case() -> None:
    upper = TableInfo(
        tuple(replace(column, name=column.name.upper()) for column in FIT.columns), (UniqueKeyInfo("u", ("at", "k")),)
    )
    assert said(upper) == []


def test_a_missing_key_is_named_with_the_statement_that_adds_it() -> None:
    (line,) = said(replace(FIT, keys=()))
    assert line == (
        "t has no unique key of exactly the columns (k, at): run ALTER TABLE `t` ADD UNIQUE KEY `sensorsync_identity` (`k`,`at`)"
    )
    taken = TableInfo(
        (*FIT.columns, ColumnInfo("id", "int", default_is_unique=True)),
        (UniqueKeyInfo("sensorsync_identity", ("id",)),),
    )
    assert "ADD UNIQUE KEY `sensorsync_identity_`" in said(taken)[0]


@pytest.mark.parametrize(
    "key",
    [
        UniqueKeyInfo("u", ("k",)),
        UniqueKeyInfo("u", ("k", "at", "v")),
        UniqueKeyInfo("u", ("k", "at"), compares_whole_columns=False),
    ],
    ids=["fewer", "more", "prefix"],
)
def test_a_key_of_other_columns_or_of_prefixes_is_not_the_declared_one(key: UniqueKeyInfo) -> None:
    assert said(replace(FIT, keys=(key,)))[0].startswith("t has no unique key of exactly")


@pytest.mark.parametrize(
    ("key", "refused"),
    [
        (UniqueKeyInfo("u", ("v",)), True),
        (UniqueKeyInfo("u", ("k",)), True),
        (UniqueKeyInfo("u", ("k", "v")), True),
        (UniqueKeyInfo("u", ("k", "at", "v"), compares_whole_columns=False), True),
        (UniqueKeyInfo("u", ("serial",)), True),
        (UniqueKeyInfo("u", ("k", "at", "v")), False),
        (UniqueKeyInfo("u", ("id",)), False),
        (UniqueKeyInfo("u", ("v", "id")), False),
    ],
)
def test_another_unique_key_is_refused_unless_no_new_row_can_meet_another_one_there(
    key: UniqueKeyInfo, refused: bool
) -> None:
    more = (
        ColumnInfo("serial", "int", nullable=False),
        ColumnInfo("id", "int", nullable=False, default_is_unique=True),
    )
    lines = said(with_columns(*more, keys=[key]))
    assert bool(lines) == refused
    assert all("another unique key, u (" in line and "change the wrong row" in line for line in lines)


FITS: dict[ColumnKind | None, tuple[str, ...]] = {
    "number": ("double", "float", "decimal(10,2)"),
    "integer": ("int(11)", "tinyint(4)", "bigint unsigned", "decimal(20,0)", "double"),
    "boolean": ("tinyint(1)", "bit(1)", "int"),
    "text": ("varchar(1)", "char(9)", "text", "longtext", "enum('a','b')", "uuid"),
    "time": ("datetime", "datetime(6)", "timestamp(3)", "varchar(26)", "text"),
    "json": ("json", "longtext", "text"),
    "id": ("binary(16)", "varbinary(16)", "varbinary(255)", "blob", "uuid"),
    None: ("double", "decimal(9,3)", "text", "varchar(9)"),
}
TYPES = {type_ for types in FITS.values() for type_ in types} | {
    "date",
    "time",
    "year(4)",
    "point",
    "varchar(25)",
    "binary(8)",
    "binary(20)",
}


@pytest.mark.parametrize("kind", FITS)
def test_a_kind_fits_the_types_that_keep_all_of_its_values(kind: ColumnKind | None) -> None:
    fitting = {type_ for type_ in TYPES if MySqlDialect().can_store(kind, ColumnInfo("c", type_))}
    texts = {"varchar(1)", "char(9)", "text", "longtext", "varchar(9)", "varchar(25)", "varchar(26)"}
    also: dict[ColumnKind | None, set[str]] = {
        "text": texts,
        "json": texts,
        None: texts | {"float", "decimal(10,2)", "decimal(20,0)"},
        "time": {"longtext"},
        "number": {"decimal(9,3)", "decimal(20,0)"},
        "integer": {"int", "tinyint(1)", "float", "decimal(10,2)", "decimal(9,3)"},
        "boolean": {"int(11)", "tinyint(4)", "bigint unsigned"},
    }
    assert fitting == {*FITS[kind], *also.get(kind, ())}


@pytest.mark.parametrize(
    ("column", "words", "statement"),
    [
        (ColumnInfo("v", "int"), "t.v is int, which does not hold numbers with a fraction", "MODIFY `v` DOUBLE NULL"),
        (
            ColumnInfo("at", "bigint", nullable=False),
            "t.at is bigint, which does not hold times",
            "MODIFY `at` DATETIME(6) NOT NULL",
        ),
        (
            ColumnInfo("k", "varchar(64)", collation="utf8mb4_general_ci"),
            "t.k is in the key but may be NULL",
            "MODIFY `k` varchar(64) COLLATE utf8mb4_general_ci NOT NULL",
        ),
        (
            ColumnInfo("site", "int", nullable=False, has_default=False),
            "t.site is not mapped but demands a value",
            "MODIFY `site` int NULL",
        ),
        (ColumnInfo("v", "double", generated=True), "t.v is a generated column", None),
    ],
)
def test_a_column_that_is_not_fit_is_named_with_what_fixes_it(
    column: ColumnInfo, words: str, statement: str | None
) -> None:
    (line,) = said(with_columns(column))
    assert line.startswith(words)
    assert line.partition(": run ")[2] == (f"ALTER TABLE `t` {statement}" if statement else "")


def test_a_column_that_is_filled_or_computed_by_the_database_needs_no_mapping() -> None:
    more = (
        ColumnInfo("id", "int", nullable=False),
        ColumnInfo("day", "date", nullable=False, has_default=False, generated=True),
    )
    assert said(with_columns(*more)) == []


def test_a_column_without_a_type_in_the_mapping_is_not_rounded_without_a_word() -> None:
    table = replace(TABLE, columns=(*TABLE.columns[:2], Column("v", None)))
    (line,) = said(with_columns(ColumnInfo("v", "int")), table)
    assert line == "t.v is int, which does not hold numbers and texts: say its `type` in the mapping"


def test_a_long_text_in_the_key_gets_a_length_before_the_key_is_added() -> None:
    found = TableInfo((ColumnInfo("k", "text", nullable=False), *FIT.columns[1:]), ())
    column, key = said(found)
    assert column.endswith("MODIFY `k` VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL")
    assert "ADD UNIQUE KEY" in key


def test_a_table_that_is_missing_gets_a_suggestion() -> None:
    (line,) = said(None)
    assert line.startswith("the table t does not exist")
    assert (
        "CREATE TABLE `t` (`k` VARCHAR(128) NOT NULL, `at` DATETIME(6) NOT NULL, `v` DOUBLE, PRIMARY KEY (`k`,`at`))"
        in line
    )


def test_a_view_is_the_only_difference_that_is_reported() -> None:
    assert said(TableInfo((), (), ("t is a view",))) == ["t is a view"]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (
            ColumnInfo("k", "varchar(9)", collation="utf8mb4_general_ci"),
            "t.k is in the key of its mapping and has the collation",
        ),
        (ColumnInfo("k", "varchar(9)", collation="utf8mb4_0900_ai_ci"), "differ only in case or accents"),
        (ColumnInfo("at", "datetime(3)"), "keeps 3 of 6 digits"),
        (ColumnInfo("at", "timestamp"), "keeps 0 of 6 digits"),
        (ColumnInfo("k", "float"), "is float: it rounds"),
        (ColumnInfo("k", "decimal(6,2)"), "is decimal(6,2): it rounds"),
        (ColumnInfo("k", "double(9,3)"), "is double(9,3): it rounds"),
        (ColumnInfo("k", "double"), None),
        (ColumnInfo("v", "float"), None),
        (ColumnInfo("v", "enum('off','on')"), "t.v is enum('off','on'): a text of digits"),
        (ColumnInfo("k", "varchar(9)", collation="utf8mb4_0900_as_cs"), None),
        (ColumnInfo("k", "varchar(9)", collation="utf8mb4_nopad_bin"), None),
        (ColumnInfo("v", "varchar(9)", collation="utf8mb4_general_ci"), None),
        (ColumnInfo("v", "datetime"), None),
    ],
)
def test_where_two_identities_or_values_could_count_as_one_there_is_a_warning(
    column: ColumnInfo, words: str | None
) -> None:
    lines = warnings(TABLE, with_columns(column), MySqlDialect())
    assert len(lines) == (words is not None)
    assert words is None or words in lines[0]
