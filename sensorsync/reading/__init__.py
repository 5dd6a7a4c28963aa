"""What one message says: payload -> Reading | Rejected."""

from sensorsync.reading.decoder import ReadingDecoder
from sensorsync.reading.model import (
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

__all__ = [
    "MAX_ID",
    "MAX_NESTING",
    "MAX_TOPIC",
    "MAX_UNIT",
    "MAX_VALUE_TEXT",
    "REASONS",
    "Reading",
    "ReadingDecoder",
    "ReadingRules",
    "Rejected",
]
