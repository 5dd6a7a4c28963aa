"""Any device's messages, as the configuration's `mappings` describe them: payload -> Reading | TableRow | FanOut | Rejected | None.

For the configuration: `Mapping(spec)` checks a specification, without files and network, and raises MappingError(key, message,
column) for the first thing that cannot work. `key` is the place in the terms of MappingSpec: `topic`, `when`, `each`, `where`,
`device_id.root`, `event_id[0].path` (always with an index), `ts.format`, `readings[2].value.path` (also of the one reading
of `single`), `table.key`, `table.columns.temp.from_unit`; or the source itself (`readings[2].value`) when no part of it alone is
wrong. The last name may be missing in the file, where a plain text is the short form of a source. `column` counts the characters of
an expression from 0, and is None for all other mistakes.
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
    """The engine, with JMESPath and all formats: loaded by who builds one, not by everything that reads a configuration."""
    if name in {"Mapping", "Mappings"}:
        return getattr(import_module(f"sensorsync.messages.mapping.{name.lower()}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
