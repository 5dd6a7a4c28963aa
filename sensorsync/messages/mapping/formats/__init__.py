"""Formats, which turn bytes into a document. Each has a small module, and all implement one protocol."""

from __future__ import annotations

from typing import Any, Protocol, assert_never

from sensorsync.messages.mapping.formats.csv_text import CsvFormat
from sensorsync.messages.mapping.formats.influx import InfluxFormat
from sensorsync.messages.mapping.formats.json_text import JsonFormat
from sensorsync.messages.mapping.formats.senml import SenmlFormat
from sensorsync.messages.mapping.formats.value import ValueFormat
from sensorsync.messages.mapping.model import FormatSpec


class Format(Protocol):
    """A parser of payloads: bytes -> document. It is thread-safe."""

    has_records: bool
    """True when a document is a list of records, each of which is an element."""

    def parse(self, payload: bytes) -> Any:
        """Return the document in JSON's types: dict, list, str, int, float (finite), bool, None. Raises only DecodeError.

        Integers are within 64 bits (-2**63 to 2**64 - 1). A list of records has at least one and at most MAX_ROWS of them. The caller
        limits the size of the payload.
        """
        ...


def create_format(spec: FormatSpec) -> Format:
    """Return the format that a mapping specifies."""
    match spec.name:
        case "json":
            return JsonFormat()
        case "value":
            return ValueFormat()
        case "senml":
            return SenmlFormat()
        case "csv":
            return CsvFormat(spec.delimiter, spec.columns)
        case "influx":
            return InfluxFormat(spec.precision)
        case _:
            assert_never(spec.name)
