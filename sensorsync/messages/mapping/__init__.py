"""Decoders of any device's messages, built from the setting `mappings`: payload -> Reading | TableRow | FanOut | Rejected | None.

The configuration uses `Mapping(spec)` to check a specification without files and network. It raises MappingError(key, message,
column) for the first part that cannot work. `key` is the place in the terms of MappingSpec: `topic`, `when`, `each`, `where`,
`device_id.root`, `event_id[0].path` (always with an index), `ts.format`, `readings[2].value.path` (also for the only reading
of `single`), `table.key` or `table.columns.temp.from_unit`. It is the source itself (`readings[2].value`) when no single part of it
is wrong. The last name may be missing in the file, where a plain text is the short form of a source. `column` is the position in an
expression, in characters from 0. It is None for all other mistakes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sensorsync.messages.mapping.model import (
    FIELD_KINDS,
    MAX_PAYLOAD_COLUMN_BYTES,
    MAX_ROWS,
    FormatName,
    FormatSpec,
    MappingError,
    MappingSpec,
    ReadingSpec,
    Source,
)

if TYPE_CHECKING:
    from sensorsync.messages.mapping.mapping import Mapping
    from sensorsync.messages.mapping.mappings import Mappings

__all__ = [
    "FIELD_KINDS",
    "MAX_PAYLOAD_COLUMN_BYTES",
    "MAX_ROWS",
    "FormatName",
    "FormatSpec",
    "Mapping",
    "MappingError",
    "MappingSpec",
    "Mappings",
    "ReadingSpec",
    "Source",
]


def __getattr__(name: str) -> object:
    """Import the engine, with JMESPath and all formats, on its first use. Code that only reads a configuration does not load it."""
    if name in {"Mapping", "Mappings"}:
        return getattr(import_module(f"sensorsync.messages.mapping.{name.lower()}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
