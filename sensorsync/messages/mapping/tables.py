"""The builder of rows of a target table from elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sensorsync.messages.mapping.conversions import untyped_value
from sensorsync.messages.mapping.identity import Identity, id_from_value
from sensorsync.messages.mapping.message import Message
from sensorsync.messages.mapping.model import FIELD_KINDS, MappingError, MappingSpec, Source
from sensorsync.messages.mapping.payload_column import PayloadColumn
from sensorsync.messages.mapping.sources import SourceCompiler
from sensorsync.messages.reading import fields
from sensorsync.messages.reading.model import DecodeError
from sensorsync.messages.reading.rows import Column, ColumnKind, ColumnValue, TableRow, TargetTable

_KINDS: tuple[ColumnKind, ...] = ("number", "integer", "boolean", "text", "time", "json", "id")


class _MappingFields(NamedTuple):
    """The mapping's own fields of one element, named as in `Source.field`. None when no column needs it or there is none."""

    event_id: bytes | None
    device_id: str | None
    ts: str | None
    topic: str
    received_at: str | None
    payload: str | None


_ColumnGetter = Callable[[Any, Message, _MappingFields], ColumnValue]


class OwnRows:
    """A builder of the rows of elements in a target table."""

    def __init__(
        self,
        spec: MappingSpec,
        table: TargetTable,
        sources: SourceCompiler,
        identity: Identity,
        payload_column: PayloadColumn,
    ) -> None:
        self._table = table
        self._identity = identity
        self._payload_column = payload_column
        names = [column.name for column in table.columns]
        if len(spec.columns) != len(names) or not names:
            raise MappingError("table.columns", f"{len(names)} columns have {len(spec.columns)} sources")
        for name in names:
            if names.count(name) > 1:
                raise MappingError(f"table.columns.{name}", "the table has this column twice")
        self._fields = {source.field for source in spec.columns}
        self._has_ids = any(source.type == "id" for source in spec.columns)
        self._needs_ts = identity.has_ts or "ts" in self._fields
        self._needs_id = "event_id" in self._fields or (self._needs_ts and bool(spec.event_id))
        self._check_fields(spec)
        self._column_getters = [
            _column_getter(column, source, f"table.columns.{column.name}", sources)
            for column, source in zip(table.columns, spec.columns, strict=True)
        ]
        self._check_key(spec.columns, names)
        self._key = [(place, names[place]) for place in table.key_places]

    def _check_fields(self, spec: MappingSpec) -> None:
        possible = {
            "device_id": self._identity.has_device_id,
            "event_id": self._identity.has_event_id,
            "ts": self._identity.can_have_ts,
        }
        for column, source in zip(self._table.columns, spec.columns, strict=True):
            if source.field is not None and not possible.get(source.field, True):
                raise MappingError(f"table.columns.{column.name}.field", f"the mapping has no {source.field}")

    def _check_key(self, columns: tuple[Source, ...], names: list[str]) -> None:
        if not self._table.key:
            raise MappingError("table.key", "a row needs a key: else a message that comes again would be a second row")
        for name in self._table.key:
            if name not in names:
                raise MappingError("table.key", f"{name} is none of the columns that the mapping writes")
            if columns[names.index(name)].field == "received_at":
                raise MappingError(
                    "table.key", f"{name} is the time of arrival, which is another when a message comes again"
                )

    def row(self, element: Any, index: int | None, message: Message) -> TableRow:
        """Return the row of one element. `index` is its place among several. Raises DecodeError."""
        facts = self._mapping_fields(element, index, message)
        values = tuple([cell(element, message, facts) for cell in self._column_getters])
        for place, name in self._key:
            value = values[place]
            if value is None:
                raise DecodeError("value", f"column {name} is missing, and belongs to the key of {self._table.name}")
            if type(value) is str and value[-1:] == " ":
                # Most collations pad with blanks, utf8mb4_bin too. `a` and `a ` would be one row, and one message would be lost.
                raise DecodeError(
                    "value", f"column {name} has a blank at its end, and belongs to the key of {self._table.name}"
                )
        return TableRow(self._table, values, facts.ts)

    def _mapping_fields(self, element: Any, index: int | None, message: Message) -> _MappingFields:
        identity, wanted = self._identity, self._fields
        device_id = event_id = ts = None
        if identity.has_device_id and (self._needs_id or self._has_ids or "device_id" in wanted):
            device_id = identity.device_id(element, message)
        if self._needs_id:
            event_id = identity.event_id(element, message, device_id or "")
        if self._needs_ts:
            ts = identity.ts(element, message, event_id)
        if index is not None and event_id is not None:
            event_id = fields.row_event_id(event_id, str(index))
        return _MappingFields(
            event_id=event_id,
            device_id=device_id,
            ts=ts,
            topic=message.topic,
            received_at=fields.unix_to_utc(message.received_at) if "received_at" in wanted else None,
            payload=self._payload_column.json_text(element, message) if "payload" in wanted else None,
        )


def _column_getter(column: Column, source: Source, key: str, sources: SourceCompiler) -> _ColumnGetter:
    if source.field is not None:
        name = source.field
        kind = FIELD_KINDS[name]
        if source.type not in {None, kind}:
            raise MappingError(f"{key}.type", f"the field {name} is {kind}, and nothing else")
        place = _MappingFields._fields.index(name)
        return lambda _, __, facts: facts[place]
    label = f"column {column.name}"
    get = sources.compile(source, key, "value", _KINDS, label=label)
    if source.type == "id":

        def id_cell(element: Any, message: Message, facts: _MappingFields) -> ColumnValue:
            value = get(element, message)
            try:
                return None if value is None else id_from_value(value, facts.device_id or "")
            except DecodeError as error:
                raise DecodeError("value", f"{label}: {error.rejection.message}") from None

        return id_cell
    if source.type is None:

        def plain_cell(element: Any, message: Message, _: _MappingFields) -> ColumnValue:
            value = get(element, message)
            return None if value is None else untyped_value(value, "value", label)

        return plain_cell
    return lambda element, message, _: get(element, message)
