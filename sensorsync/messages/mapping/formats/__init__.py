"""From bytes to a document: one small module for each format, all behind one protocol."""

from __future__ import annotations

from typing import Any, Protocol, assert_never

from sensorsync.messages.mapping.formats.csv_text import Csv
from sensorsync.messages.mapping.formats.influx import Influx
from sensorsync.messages.mapping.formats.json_text import Json
from sensorsync.messages.mapping.formats.senml import Senml
from sensorsync.messages.mapping.formats.value import Value
from sensorsync.messages.mapping.model import FormatSpec


class Format(Protocol):
    """Bytes -> document. Thread-safe."""

    records: bool
    """Whether a document is a list of records, each an element of its own."""

    def parse(self, payload: bytes) -> Any:
        """The document, of JSON's types: dict, list, str, int, float (finite), bool, None. Raises `reading.model.Fault`, nothing else.

        Integers are within 64 bits (-2**63 to 2**64 - 1). A list of records has at least one and at most MAX_ROWS of them. The caller
        bounds the payload's size.
        """
        ...


def make(spec: FormatSpec) -> Format:
    """The format that a mapping asks for."""
    match spec.name:
        case "json":
            return Json()
        case "value":
            return Value()
        case "senml":
            return Senml()
        case "csv":
            return Csv(spec.delimiter, spec.columns)
        case "influx":
            return Influx(spec.precision)
        case _:
            assert_never(spec.name)
