"""Tables of the user's own: rows sorted out by table, and whether a table is fit for the rows of its mapping.

Pure: `mysql` and `sqlite` look into the database, and say types and statements in their own way (`Dialect`).
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
"""What to do about a table of the user's own."""

UNIQUE_KEY_NAME: Final = "sensorsync_identity"
READINGS_TABLE: Final = "sensor_readings"

UpsertT = TypeVar("UpsertT")
"""What a sink has for each table."""

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
    """The rows of one batch that go into one table, in their order."""

    table: TargetTable | None
    """None: `sensor_readings`."""
    rows: Sequence[Row]


def group_by_table(rows: Sequence[Row]) -> list[TableRows]:
    """A batch by table, in the order of the tables' names: all writers take their locks in the same order."""
    readings: list[Row] = []
    tables: dict[int, tuple[TargetTable, list[Row]]] = {}
    for row in rows:
        if isinstance(row, TableRow):
            # By identity: a table's own hash goes through all of its columns.
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
    """How one writer stores the rows of each table. Without own tables all rows are readings."""

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
        """No row goes into a table of the user's own."""
        return not self._target_upserts

    def split_by_table(self, rows: Sequence[Row]) -> list[tuple[UpsertT, Sequence[Row]]]:
        """A batch by table, as `group_by_table` has it."""
        if self.only_readings:
            return [(self._reading_upsert, rows)]
        return [(self._upsert_for(table), some) for table, some in group_by_table(rows)]

    def _upsert_for(self, table: TargetTable | None) -> UpsertT:
        if table is None:
            return self._reading_upsert
        # By identity, as in `group_by_table`; a table is kept beside its upsert, so that no other object gets its id.
        known = self._target_upserts.get(id(table))
        if known is None:
            known = self._target_upserts[id(table)] = (table, self._make_target_upsert(table))
        return known[1]


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """A column as the database describes it."""

    name: str
    type: str
    """In small letters: `varchar(64)`."""
    nullable: bool = True
    has_default: bool = True
    """A row that does not name the column gets a value there: NULL, a default, the next number."""
    default_is_unique: bool = False
    """... and no two such rows get one that is the same: NULL, the next number, a UUID."""
    generated: bool = False
    """The database computes it: nothing can be written there."""
    collation: str | None = None


@dataclass(frozen=True, slots=True)
class UniqueKeyInfo:
    """A unique key, the primary one included."""

    name: str
    columns: tuple[str, ...]
    """In small letters."""
    compares_whole_columns: bool = True
    """It compares these columns from end to end, in all rows: not prefixes, expressions, or the rows of a condition."""
    drop_statement: str | None = None
    """The statement that takes it away, where there is one."""


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table as the database describes it."""

    columns: tuple[ColumnInfo, ...]
    keys: tuple[UniqueKeyInfo, ...]
    table_differences: tuple[str, ...] = ()
    """What is wrong with the table itself, as `differences` says it."""


class Dialect(Protocol):
    """How one database says types and statements. A statement is None where the database has none for it."""

    def can_store(self, kind: ColumnKind | None, found: ColumnInfo) -> bool:
        """Whether a column of this type keeps what such values say."""
        ...

    def indexable(self, found: ColumnInfo) -> bool:
        """Whether a unique key can compare the whole column."""
        ...

    def lossy_key_reason(self, found: ColumnInfo) -> str | None:
        """A clause, where two values of a key that differ can count as the same: how, and which."""
        ...

    def coercion_reason(self, found: ColumnInfo) -> str | None:
        """A clause, where the column takes a value that does not fit for another one: how, and which."""
        ...

    @property
    def allows_null_in_key(self) -> bool:
        """Whether it does no harm that a column of the key may be NULL."""
        ...

    def create_table(self, table: TargetTable) -> str:
        """A table that is fit."""
        ...

    def add_column(self, table: TargetTable, column: Column) -> str | None:
        """The column, which is missing."""
        ...

    def change_column_type(self, table: TargetTable, column: Column, found: ColumnInfo) -> str | None:
        """The column with a type that is fit."""
        ...

    def set_nullability(self, table: TargetTable, found: ColumnInfo, *, not_null: bool) -> str | None:
        """The column as it is, but NOT NULL (`value`) or NULL."""
        ...

    def add_unique_key(self, table: TargetTable, name: str) -> str | None:
        """A unique key over the declared columns."""
        ...


def format_difference(sentence: str, statement: str | None) -> str:
    """A difference, with the statement that mends it."""
    return f"{sentence}: run {statement}" if statement else sentence


def differences(table: TargetTable, found: TableInfo | None, dialect: Dialect) -> list[str]:
    """Sentences: why rows cannot go into the table as the mapping says. Run in this order, the statements in them mend it."""
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
    """Sentences: where the table keeps only one of two rows whose identities differ, or another value than it is given."""
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
    """Whether no new row can meet another row there than the one that it meets in the declared key, too."""
    mapped = {column.name.lower() for column in table.columns}
    fresh = {column.name.lower() for column in found.columns if column.default_is_unique} - mapped
    return key.compares_whole_columns and (_key_columns(table) <= set(key.columns) or not fresh.isdisjoint(key.columns))


def _key_columns(table: TargetTable) -> set[str]:
    return {name.lower() for name in table.key}
