"""From bytes to a document: one small module for each format, all behind one protocol."""

from __future__ import annotations

from typing import Any, Protocol, assert_never

from sensorsync.messages.mapping.formats.csv_text import CsvFormat
from sensorsync.messages.mapping.formats.influx import InfluxFormat
from sensorsync.messages.mapping.formats.json_text import JsonFormat
from sensorsync.messages.mapping.formats.senml import SenmlFormat
from sensorsync.messages.mapping.formats.value import ValueFormat
from sensorsync.messages.mapping.model import FormatSpec


class Format(Protocol):
    """Bytes -> document. Thread-safe."""

    has_records: bool
    """Whether a document is a list of records, each an element of its own."""

    def parse(self, payload: bytes) -> Any:
        """The document, of JSON's types: dict, list, str, int, float (finite), bool, None. Raises `reading.model.Fault`, nothing else.

        Integers are within 64 bits (-2**63 to 2**64 - 1). A list of records has at least one and at most MAX_ROWS of them. The caller
        bounds the payload's size.
        """
        ...


def create_format(spec: FormatSpec) -> Format:
    """The format that a mapping asks for."""
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
