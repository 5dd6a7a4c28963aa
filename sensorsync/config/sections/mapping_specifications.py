"""Conversion of the settings of `mappings` to specifications of the engine, and the checks across mappings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields

from sensorsync.config.sections.mapping_sources import SourceSettings, has_conversion
from sensorsync.config.sections.mapping_tables import TableSettings
from sensorsync.config.sections.mappings import MappingSettings
from sensorsync.config.sections.reading import ReadingSettings
from sensorsync.config.sections.validation import Location, ValidationIssue
from sensorsync.messages.mapping.mapping import Mapping
from sensorsync.messages.mapping.model import FIELD_KINDS, FormatSpec, MappingError, MappingSpec, ReadingSpec, Source
from sensorsync.messages.reading.rows import Column, ColumnKind, TargetTable

_SOURCE = tuple(field.name for field in fields(Source))
_PARTS = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
TablesByName = dict[str, TargetTable]


def target_tables(mappings: Sequence[MappingSettings]) -> tuple[TargetTable, ...]:
    """Return the tables that the mappings write to, each once."""
    tables: dict[str, TargetTable] = {}
    for mapping in mappings:
        if mapping.table is not None:
            tables.setdefault(mapping.table.name, _table(mapping.table))
    return tuple(tables.values())


def mapping_specs(mappings: Sequence[MappingSettings], reading: ReadingSettings) -> tuple[MappingSpec, ...]:
    """Return the specifications that the engine is built from, in the order of the mappings."""
    tables = {table.name: table for table in target_tables(mappings)}
    return tuple(_mapping_spec(mapping, reading, tables) for mapping in mappings)


def cross_mapping_issues(
    mappings: Sequence[MappingSettings], reading: ReadingSettings, *, max_age: float | None = None
) -> Iterator[ValidationIssue]:
    """Yield the issues between mappings, or between them and `reading` and `security.max_age` (seconds)."""
    names: dict[str, int] = {}
    tables = {table.name: table for table in target_tables(mappings)}
    for place, mapping in enumerate(mappings):
        first = names.setdefault(mapping.name, place)
        if first != place:
            yield ("mappings", place, "name"), f"mappings[{first}] has the same name"
        if mapping.table is not None and not _same_definition(_table(mapping.table), tables[mapping.table.name]):
            yield (
                ("mappings", place, "table"),
                f"another mapping writes to {mapping.table.name} with other columns, types, key or conflict",
            )
        else:
            yield from _build_issues(place, mapping, reading, tables)
        if (
            max_age is not None
            and mapping.table is not None
            and mapping.ts is None
            and not mapping.table.has_field_column("ts")
        ):
            yield (
                ("mappings", place, "table"),
                "security.max_age asks how old a message is, and this mapping has no ts: say where its time is",
            )


def _build_issues(
    place: int, mapping: MappingSettings, reading: ReadingSettings, tables: TablesByName
) -> Iterator[ValidationIssue]:
    """Yield the issue that the engine finds in a mapping. The engine stops at the first part that it cannot build."""
    try:
        Mapping(_mapping_spec(mapping, reading, tables))
    except MappingError as error:
        yield ("mappings", place, *_setting_location(error.key, mapping)), error.message


def _setting_location(key: str, mapping: MappingSettings) -> Location:
    """Return the place in the settings of the engine's `readings[0].value.path` or `table.columns.temp.type`."""
    if mapping.metric is not None:
        key = key.removeprefix("readings[0].")
    column = key.removeprefix("table.columns.")
    if mapping.table is not None and column != key:
        name = next((name for name in mapping.table.columns if column == name or column.startswith(f"{name}.")), column)
        rest = column.removeprefix(name).removeprefix(".")
        return ("table", "columns", name, *([rest] if rest else []))
    return tuple(int(index) if index else name for name, index in _PARTS.findall(key))


def _same_definition(one: TargetTable, other: TargetTable) -> bool:
    return (set(one.columns), set(one.key), one.conflict) == (set(other.columns), set(other.key), other.conflict)


def _mapping_spec(mapping: MappingSettings, reading: ReadingSettings, tables: TablesByName) -> MappingSpec:
    table = tables[mapping.table.name] if mapping.table is not None else None
    columns = mapping.table.columns if mapping.table is not None else {}
    return MappingSpec(
        name=mapping.name,
        topic=mapping.topic,
        format=FormatSpec(mapping.format, mapping.csv_delimiter, mapping.csv_columns, mapping.influx_precision),
        when=mapping.when,
        each=mapping.each,
        where=mapping.where,
        event_id=tuple(_source(source) for source in mapping.event_id),
        device_id=_maybe(mapping.device_id),
        ts=_maybe(mapping.ts),
        readings=tuple(
            ReadingSpec(_source(one.metric), _source(one.value), _maybe(one.unit), one.optional)
            for one in mapping.all_readings
        ),
        single=mapping.is_single,
        table=table,
        columns=tuple(_source(columns[column.name]) for column in table.columns) if table is not None else (),
        missing_ts=mapping.missing_ts or reading.missing_ts,
        missing_id=mapping.missing_id or reading.missing_id,
        keep=mapping.keep,
    )


def _table(settings: TableSettings) -> TargetTable:
    columns = (Column(name, _column_kind(source)) for name, source in settings.columns.items())
    return TargetTable(settings.name, tuple(columns), settings.key, settings.conflict)


def _column_kind(source: SourceSettings) -> ColumnKind | None:
    """Return the kind of a source's values, or None when it is unknown. The store compares it with the column's type."""
    if source.type is not None:
        return source.type
    if source.field is not None:
        return FIELD_KINDS[source.field]
    if has_conversion(source):
        return "number"
    is_text = source.topic or source.property or source.content_type or source.values
    return "text" if is_text else None


def _source(settings: SourceSettings) -> Source:
    return Source(**{name: getattr(settings, name) for name in _SOURCE})


def _maybe(settings: SourceSettings | None) -> Source | None:
    return None if settings is None else _source(settings)
