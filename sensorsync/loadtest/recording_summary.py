"""What a recording holds, known before it is published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sensorsync.errors import ConfigurationError
from sensorsync.messages.reading import Reading, ReadingDecoder


@dataclass(frozen=True, slots=True)
class RecordingSummary:
    """What a file of readings holds."""

    readings: int
    distinct_keys: int
    """How many different ones: as many rows will there be."""

    @classmethod
    def read(cls, file: Path) -> RecordingSummary:
        """Raises ConfigurationError when it can't be read or holds no reading."""
        decoder, readings, found = ReadingDecoder(), 0, set()
        try:
            with file.open("rb") as stream:
                for line in stream:
                    reading = decoder.decode(line.strip(), "", 0.0)
                    if isinstance(reading, Reading):
                        readings += 1
                        found.add((reading.device_id, reading.metric, reading.ts, reading.event_id))
        except OSError as error:
            message = f"The recording {file} can't be read: {error.strerror}."
            raise ConfigurationError(message, hint="Check --file.") from error
        if not readings:
            hint = "It must have one JSON object a line; see docs/reference/message-format.md."
            raise ConfigurationError(f"The recording {file} holds no reading.", hint=hint)
        return cls(readings, len(found))
