"""What one message says: payload -> Reading | Rejected."""

from sensorsync.messages.reading.decoder import ReadingDecoder
from sensorsync.messages.reading.model import (
    MAX_ID,
    MAX_NESTING,
    MAX_TOPIC,
    MAX_UNIT,
    MAX_VALUE_TEXT,
    REASONS,
    Reading,
    ReadingRules,
    Rejected,
)
from sensorsync.messages.reading.rows import Column, FanOut, OwnTable, Row, TableRow

__all__ = [
    "MAX_ID",
    "MAX_NESTING",
    "MAX_TOPIC",
    "MAX_UNIT",
    "MAX_VALUE_TEXT",
    "REASONS",
    "Column",
    "FanOut",
    "OwnTable",
    "Reading",
    "ReadingDecoder",
    "ReadingRules",
    "Rejected",
    "Row",
    "TableRow",
]
