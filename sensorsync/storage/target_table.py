"""Target tables: the rows of a batch grouped by table, and the check that a table can store the rows of its mapping.

This module does not access a database. `mysql` and `sqlite` read the table's description and supply types and
statements as a `Dialect`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from sensorsync.messages.reading import Column, Row, TableRow, TargetTable
from sensorsync.messages.reading.rows import ColumnKind

TARGET_TABLE_HINT: Final = (
    "mend the table, where a statement is given with that (look at it first), or change `table` in the mapping:"
    " sensorsync alters no table of yours"
)
"""The hint of errors about a target table."""

UNIQUE_KEY_NAME: Final = "sensorsync_identity"
READINGS_TABLE: Final = "sensor_readings"

UpsertT = TypeVar("UpsertT")
"""The type of a sink's upsert of one table."""

_KIND_DESCRIPTIONS: Final[dict[ColumnKind | None, str]] = {
    "number": "numbers with a fraction",
    "integer": "whole numbers",
    "boolean": "true and false",
    "text": "any text",
    "time": "times with their date",
    "json": "JSON",
    "id": "ids of 16 bytes",
    None: "numbers and texts",
}


class TableRows(NamedTuple):
    """The rows of one batch for one table, in their order."""

    table: TargetTable | None
    """The target table; None stands for `sensor_readings`."""
    rows: Sequence[Row]


def group_by_table(rows: Sequence[Row]) -> list[TableRows]:
    """Return a batch grouped by table, in the order of the tables' names, so that all writers take their locks in the same order."""
    readings: list[Row] = []
    tables: dict[int, tuple[TargetTable, list[Row]]] = {}
    for row in rows:
        if isinstance(row, TableRow):
            # The lookup is by identity, because a table's hash covers all of its columns.
            known = tables.get(id(row.table))
            if known is None:
                known = tables[id(row.table)] = (row.table, [])
            known[1].append(row)
        else:
            readings.append(row)
    groups = [TableRows(table, found) for table, found in tables.values()]
    if readings:
        groups.append(TableRows(None, readings))
    return sorted(groups, key=lambda group: group.table.name if group.table else READINGS_TABLE)


class TableUpserts(Generic[UpsertT]):
    """The upserts of one writer, by table. Without target tables all rows are readings."""

    def __init__(
        self,
        reading_upsert: UpsertT,
        make_target_upsert: Callable[[TargetTable], UpsertT],
        target_tables: Sequence[TargetTable],
    ) -> None:
        self._reading_upsert = reading_upsert
        self._make_target_upsert = make_target_upsert
        self._target_upserts = {id(table): (table, make_target_upsert(table)) for table in target_tables}

    @property
    def only_readings(self) -> bool:
        """True when no row is written to a target table."""
        return not self._target_upserts

    def split_by_table(self, rows: Sequence[Row]) -> list[tuple[UpsertT, Sequence[Row]]]:
        """Return a batch grouped as by `group_by_table`, with the upsert of each table."""
        if self.only_readings:
            return [(self._reading_upsert, rows)]
        return [(self._upsert_for(table), some) for table, some in group_by_table(rows)]

    def _upsert_for(self, table: TargetTable | None) -> UpsertT:
        if table is None:
            return self._reading_upsert
        # By identity, as in `group_by_table`. The reference to the table prevents that another object gets its id.
        known = self._target_upserts.get(id(table))
        if known is None:
            known = self._target_upserts[id(table)] = (table, self._make_target_upsert(table))
        return known[1]


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """A column as the database describes it."""

    name: str
    type: str
    """The type in lower case: `varchar(64)`."""
    nullable: bool = True
    has_default: bool = True
    """True when a row that omits the column gets a value: NULL, a default, or the next number."""
    default_is_unique: bool = False
    """True when no two rows that omit the column get the same value: NULL, the next number, or a UUID."""
    generated: bool = False
    """True when the database computes the column, so that no value can be written to it."""
    collation: str | None = None


@dataclass(frozen=True, slots=True)
class UniqueKeyInfo:
    """A unique key; the primary key is one, too."""

    name: str
    columns: tuple[str, ...]
    """The names in lower case."""
    compares_whole_columns: bool = True
    """True when the key compares these columns in full and in all rows: no prefixes, no expressions, no condition on the rows."""
    drop_statement: str | None = None
    """The statement that drops the key, where one exists."""


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table as the database describes it."""

    columns: tuple[ColumnInfo, ...]
    keys: tuple[UniqueKeyInfo, ...]
    table_differences: tuple[str, ...] = ()
    """The differences of the table itself, in the form of `differences`."""


class Dialect(Protocol):
    """The types and statements of one database. A statement is None where the database has none for the purpose."""

    def can_store(self, kind: ColumnKind | None, found: ColumnInfo) -> bool:
        """Return True when a column of this type stores values of this kind without loss."""
        ...

    def indexable(self, found: ColumnInfo) -> bool:
        """Return True when a unique key can compare the whole column."""
        ...

    def lossy_key_reason(self, found: ColumnInfo) -> str | None:
        """Return a clause that explains how two different values of a key column can count as the same, or None."""
        ...

    def coercion_reason(self, found: ColumnInfo) -> str | None:
        """Return a clause that explains how the column converts a value that does not fit into another value, or None."""
        ...

    @property
    def allows_null_in_key(self) -> bool:
        """True when a key column that may be NULL does no harm."""
        ...

    def create_table(self, table: TargetTable) -> str:
        """Return the statement that creates a suitable table."""
        ...

    def add_column(self, table: TargetTable, column: Column) -> str | None:
        """Return the statement that adds a missing column."""
        ...

    def change_column_type(self, table: TargetTable, column: Column, found: ColumnInfo) -> str | None:
        """Return the statement that gives the column a suitable type."""
        ...

    def set_nullability(self, table: TargetTable, found: ColumnInfo, *, not_null: bool) -> str | None:
        """Return the statement that makes the column NOT NULL (`not_null`) or NULL and changes nothing else."""
        ...

    def add_unique_key(self, table: TargetTable, name: str) -> str | None:
        """Return the statement that adds a unique key over the columns of the mapping's key."""
        ...


def format_difference(sentence: str, statement: str | None) -> str:
    """Return the sentence of a difference, with the statement that fixes it."""
    return f"{sentence}: run {statement}" if statement else sentence


def differences(table: TargetTable, found: TableInfo | None, dialect: Dialect) -> list[str]:
    """Return a sentence for each reason why the rows of the mapping cannot be written to the table.

    The statements in the sentences correct the table when they are run in this order.
    """
    if found is None:
        return [
            format_difference(
                f"the table {table.name} does not exist, or this account may not see it", dialect.create_table(table)
            )
        ]
    if not found.columns:
        return list(found.table_differences)
    return [
        *found.table_differences,
        *_mapped_column_differences(table, found, dialect),
        *_unmapped_column_differences(table, found, dialect),
        *_key_differences(table, found, dialect),
    ]


def warnings(table: TargetTable, found: TableInfo | None, dialect: Dialect) -> list[str]:
    """Return a sentence for each column that can merge rows with different keys, or store another value than it is given."""
    key = _key_columns(table)
    mapped = {column.name.lower() for column in table.columns}
    columns = () if found is None else found.columns
    return [
        *(
            f"{table.name}.{column.name} is in the key of its mapping and {how}"
            for column in columns
            if column.name.lower() in key and (how := dialect.lossy_key_reason(column))
        ),
        *(
            f"{table.name}.{column.name} {how}"
            for column in columns
            if column.name.lower() in mapped and (how := dialect.coercion_reason(column))
        ),
    ]


def _mapped_column_differences(table: TargetTable, found: TableInfo, dialect: Dialect) -> list[str]:
    there = {column.name.lower(): column for column in found.columns}
    key = _key_columns(table)
    lines: list[str] = []
    for column in table.columns:
        name = f"{table.name}.{column.name}"
        actual = there.get(column.name.lower())
        in_key = column.name.lower() in key
        if actual is None:
            lines.append(
                format_difference(f"{table.name} has no column {column.name}", dialect.add_column(table, column))
            )
        elif actual.generated:
            lines.append(f"{name} is a generated column: nothing can be written to it")
        elif not dialect.can_store(column.kind, actual):
            sentence = f"{name} is {actual.type}, which does not hold {_KIND_DESCRIPTIONS[column.kind]}"
            if column.kind is None:
                lines.append(f"{sentence}: say its `type` in the mapping")
            else:
                sentence += f" (`type: {column.kind}` in the mapping)"
                lines.append(format_difference(sentence, dialect.change_column_type(table, column, actual)))
        elif in_key and not dialect.indexable(actual) and not _matching_keys(table, found):
            sentence = f"{name} is {actual.type}, which a unique key cannot compare from end to end"
            lines.append(format_difference(sentence, dialect.change_column_type(table, column, actual)))
        elif in_key and actual.nullable and not dialect.allows_null_in_key:
            lines.append(
                format_difference(
                    f"{name} is in the key but may be NULL", dialect.set_nullability(table, actual, not_null=True)
                )
            )
    return lines


def _unmapped_column_differences(table: TargetTable, found: TableInfo, dialect: Dialect) -> list[str]:
    mapped = {column.name.lower() for column in table.columns}
    primary = {name for key in found.keys if key.name == "PRIMARY" for name in key.columns}
    return [
        format_difference(
            f"{table.name}.{column.name} is not mapped but demands a value",
            None if column.name.lower() in primary else dialect.set_nullability(table, column, not_null=False),
        )
        for column in found.columns
        if column.name.lower() not in mapped and not column.has_default and not column.generated
    ]


def _key_differences(table: TargetTable, found: TableInfo, dialect: Dialect) -> list[str]:
    lines: list[str] = []
    if not _matching_keys(table, found):
        name = UNIQUE_KEY_NAME
        while name in {key.name for key in found.keys}:
            name += "_"
        sentence = f"{table.name} has no unique key of exactly the columns ({', '.join(table.key)})"
        lines.append(format_difference(sentence, dialect.add_unique_key(table, name)))
    lines += [
        format_difference(
            f"{table.name} has another unique key, {key.name} ({', '.join(key.columns)}): an upsert could change the wrong row",
            key.drop_statement,
        )
        for key in found.keys
        if not _is_safe_key(key, table, found)
    ]
    return lines


def _matching_keys(table: TargetTable, found: TableInfo) -> list[UniqueKeyInfo]:
    return [key for key in found.keys if key.compares_whole_columns and set(key.columns) == _key_columns(table)]


def _is_safe_key(key: UniqueKeyInfo, table: TargetTable, found: TableInfo) -> bool:
    """Return True when a new row can conflict in this key only with the row that it conflicts with in the mapping's key."""
    mapped = {column.name.lower() for column in table.columns}
    fresh = {column.name.lower() for column in found.columns if column.default_is_unique} - mapped
    return key.compares_whole_columns and (_key_columns(table) <= set(key.columns) or not fresh.isdisjoint(key.columns))


def _key_columns(table: TargetTable) -> set[str]:
    return {name.lower() for name in table.key}
