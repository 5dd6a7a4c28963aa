"""Readings, and their decoder: payload -> Reading | Rejected."""

from sensorsync.messages.reading.decoder import ReadingDecoder
from sensorsync.messages.reading.model import (
    MAX_ID,
    MAX_NESTING,
    MAX_TOPIC,
    MAX_UNIT,
    MAX_VALUE_TEXT,
    REJECTION_REASONS,
    Reading,
    ReadingRules,
    Rejected,
)
from sensorsync.messages.reading.rows import Column, FanOut, Row, TableRow, TargetTable

__all__ = [
    "MAX_ID",
    "MAX_NESTING",
    "MAX_TOPIC",
    "MAX_UNIT",
    "MAX_VALUE_TEXT",
    "REJECTION_REASONS",
    "Column",
    "FanOut",
    "Reading",
    "ReadingDecoder",
    "ReadingRules",
    "Rejected",
    "Row",
    "TableRow",
    "TargetTable",
]
