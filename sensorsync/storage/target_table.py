"""Tables of the user's own: rows sorted out by table, and whether a table is fit for the rows of its mapping.

Pure: `mysql` and `sqlite` look into the database, and say types and statements in their own way (`Dialect`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from sensorsync.messages.reading import Column, OwnTable, Row, TableRow
from sensorsync.messages.reading.rows import Kind

OWN_TABLE_HINT: Final = (
    "mend the table, where a statement is given with that (look at it first), or change `table` in the mapping:"
    " sensorsync alters no table of yours"
)
"""What to do about a table of the user's own."""

KEY_NAME: Final = "sensorsync_identity"
READINGS: Final = "sensor_readings"

Upsert = TypeVar("Upsert")
"""What a sink has for each table."""

_HOLDS: Final[dict[Kind | None, str]] = {
    "number": "numbers with a fraction",
    "integer": "whole numbers",
    "boolean": "true and false",
    "text": "any text",
    "time": "times with their date",
    "json": "JSON",
    "id": "ids of 16 bytes",
    None: "numbers and texts",
}


class Group(NamedTuple):
    """The rows of one batch that go into one table, in their order."""

    table: OwnTable | None
    """None: `sensor_readings`."""
    rows: Sequence[Row]


def grouped(rows: Sequence[Row]) -> list[Group]:
    """A batch by table, in the order of the tables' names: all writers take their locks in the same order."""
    readings: list[Row] = []
    tables: dict[int, tuple[OwnTable, list[Row]]] = {}
    for row in rows:
        if isinstance(row, TableRow):
            # By identity: a table's own hash goes through all of its columns.
            known = tables.get(id(row.table))
            if known is None:
                known = tables[id(row.table)] = (row.table, [])
            known[1].append(row)
        else:
            readings.append(row)
    groups = [Group(table, found) for table, found in tables.values()]
    if readings:
        groups.append(Group(None, readings))
    return sorted(groups, key=lambda group: group.table.name if group.table else READINGS)


class Upserts(Generic[Upsert]):
    """How one writer stores the rows of each table. Without own tables all rows are readings."""

    def __init__(self, readings: Upsert, own: Callable[[OwnTable], Upsert], tables: Sequence[OwnTable]) -> None:
        self._readings = readings
        self._make = own
        self._own = {id(table): (table, own(table)) for table in tables}

    @property
    def only_readings(self) -> bool:
        """No row goes into a table of the user's own."""
        return not self._own

    def batch(self, rows: Sequence[Row]) -> list[tuple[Upsert, Sequence[Row]]]:
        """A batch by table, as `grouped` has it."""
        if self.only_readings:
            return [(self._readings, rows)]
        return [(self._of(table), some) for table, some in grouped(rows)]

    def _of(self, table: OwnTable | None) -> Upsert:
        if table is None:
            return self._readings
        # By identity, as in `grouped`; a table is kept beside its upsert, so that no other object gets its id.
        known = self._own.get(id(table))
        if known is None:
            known = self._own[id(table)] = (table, self._make(table))
        return known[1]


@dataclass(frozen=True, slots=True)
class FoundColumn:
    """A column as the database describes it."""

    name: str
    type: str
    """In small letters: `varchar(64)`."""
    nullable: bool = True
    filled: bool = True
    """A row that does not name the column gets a value there: NULL, a default, the next number."""
    always_new: bool = False
    """... and no two such rows get one that is the same: NULL, the next number, a UUID."""
    generated: bool = False
    """The database computes it: nothing can be written there."""
    collation: str | None = None


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A unique key, the primary one included."""

    name: str
    columns: tuple[str, ...]
    """In small letters."""
    whole: bool = True
    """It compares these columns from end to end, in all rows: not prefixes, expressions, or the rows of a condition."""
    removal: str | None = None
    """The statement that takes it away, where there is one."""


@dataclass(frozen=True, slots=True)
class FoundTable:
    """A table as the database describes it."""

    columns: tuple[FoundColumn, ...]
    keys: tuple[FoundKey, ...]
    faults: tuple[str, ...] = ()
    """What is wrong with the table itself, as `differences` says it."""


class Dialect(Protocol):
    """How one database says types and statements. A statement is None where the database has none for it."""

    def fits(self, kind: Kind | None, found: FoundColumn) -> bool:
        """Whether a column of this type keeps what such values say."""
        ...

    def indexable(self, found: FoundColumn) -> bool:
        """Whether a unique key can compare the whole column."""
        ...

    def blurs(self, found: FoundColumn) -> str | None:
        """A clause, where two values of a key that differ can count as the same: how, and which."""
        ...

    def misreads(self, found: FoundColumn) -> str | None:
        """A clause, where the column takes a value that does not fit for another one: how, and which."""
        ...

    @property
    def null_in_keys(self) -> bool:
        """Whether it does no harm that a column of the key may be NULL."""
        ...

    def create(self, table: OwnTable) -> str:
        """A table that is fit."""
        ...

    def add(self, table: OwnTable, column: Column) -> str | None:
        """The column, which is missing."""
        ...

    def retype(self, table: OwnTable, column: Column, found: FoundColumn) -> str | None:
        """The column with a type that is fit."""
        ...

    def require(self, table: OwnTable, found: FoundColumn, *, value: bool) -> str | None:
        """The column as it is, but NOT NULL (`value`) or NULL."""
        ...

    def add_key(self, table: OwnTable, name: str) -> str | None:
        """A unique key over the declared columns."""
        ...


def said(sentence: str, statement: str | None) -> str:
    """A difference, with the statement that mends it."""
    return f"{sentence}: run {statement}" if statement else sentence


def differences(table: OwnTable, found: FoundTable | None, dialect: Dialect) -> list[str]:
    """Sentences: why rows cannot go into the table as the mapping says. Run in this order, the statements in them mend it."""
    if found is None:
        return [said(f"the table {table.name} does not exist, or this account may not see it", dialect.create(table))]
    if not found.columns:
        return list(found.faults)
    return [
        *found.faults,
        *_mapped(table, found, dialect),
        *_unmapped(table, found, dialect),
        *_keys(table, found, dialect),
    ]


def warnings(table: OwnTable, found: FoundTable | None, dialect: Dialect) -> list[str]:
    """Sentences: where the table keeps only one of two rows whose identities differ, or another value than it is given."""
    key = _key(table)
    mapped = {column.name.lower() for column in table.columns}
    columns = () if found is None else found.columns
    return [
        *(
            f"{table.name}.{column.name} is in the key of its mapping and {how}"
            for column in columns
            if column.name.lower() in key and (how := dialect.blurs(column))
        ),
        *(
            f"{table.name}.{column.name} {how}"
            for column in columns
            if column.name.lower() in mapped and (how := dialect.misreads(column))
        ),
    ]


def _mapped(table: OwnTable, found: FoundTable, dialect: Dialect) -> list[str]:
    there = {column.name.lower(): column for column in found.columns}
    key = _key(table)
    lines: list[str] = []
    for column in table.columns:
        name = f"{table.name}.{column.name}"
        actual = there.get(column.name.lower())
        in_key = column.name.lower() in key
        if actual is None:
            lines.append(said(f"{table.name} has no column {column.name}", dialect.add(table, column)))
        elif actual.generated:
            lines.append(f"{name} is a generated column: nothing can be written to it")
        elif not dialect.fits(column.kind, actual):
            sentence = f"{name} is {actual.type}, which does not hold {_HOLDS[column.kind]}"
            if column.kind is None:
                lines.append(f"{sentence}: say its `type` in the mapping")
            else:
                sentence += f" (`type: {column.kind}` in the mapping)"
                lines.append(said(sentence, dialect.retype(table, column, actual)))
        elif in_key and not dialect.indexable(actual) and not _identities(table, found):
            sentence = f"{name} is {actual.type}, which a unique key cannot compare from end to end"
            lines.append(said(sentence, dialect.retype(table, column, actual)))
        elif in_key and actual.nullable and not dialect.null_in_keys:
            lines.append(said(f"{name} is in the key but may be NULL", dialect.require(table, actual, value=True)))
    return lines


def _unmapped(table: OwnTable, found: FoundTable, dialect: Dialect) -> list[str]:
    mapped = {column.name.lower() for column in table.columns}
    primary = {name for key in found.keys if key.name == "PRIMARY" for name in key.columns}
    return [
        said(
            f"{table.name}.{column.name} is not mapped but demands a value",
            None if column.name.lower() in primary else dialect.require(table, column, value=False),
        )
        for column in found.columns
        if column.name.lower() not in mapped and not column.filled and not column.generated
    ]


def _keys(table: OwnTable, found: FoundTable, dialect: Dialect) -> list[str]:
    lines: list[str] = []
    if not _identities(table, found):
        name = KEY_NAME
        while name in {key.name for key in found.keys}:
            name += "_"
        sentence = f"{table.name} has no unique key of exactly the columns ({', '.join(table.key)})"
        lines.append(said(sentence, dialect.add_key(table, name)))
    lines += [
        said(
            f"{table.name} has another unique key, {key.name} ({', '.join(key.columns)}): an upsert could change the wrong row",
            key.removal,
        )
        for key in found.keys
        if not _harmless(key, table, found)
    ]
    return lines


def _identities(table: OwnTable, found: FoundTable) -> list[FoundKey]:
    return [key for key in found.keys if key.whole and set(key.columns) == _key(table)]


def _harmless(key: FoundKey, table: OwnTable, found: FoundTable) -> bool:
    """Whether no new row can meet another row there than the one that it meets in the declared key, too."""
    mapped = {column.name.lower() for column in table.columns}
    fresh = {column.name.lower() for column in found.columns if column.always_new} - mapped
    return key.whole and (_key(table) <= set(key.columns) or not fresh.isdisjoint(key.columns))


def _key(table: OwnTable) -> set[str]:
    return {name.lower() for name in table.key}
