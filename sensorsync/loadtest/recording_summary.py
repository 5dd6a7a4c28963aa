"""The summary of a recording, for the time before it is published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sensorsync.errors import ConfigurationError
from sensorsync.messages.reading import Reading, ReadingDecoder


@dataclass(frozen=True, slots=True)
class RecordingSummary:
    """The counts of a file of readings."""

    readings: int
    distinct_keys: int
    """Number of different keys, which is the number of rows in the database."""

    @classmethod
    def read(cls, file: Path) -> RecordingSummary:
        """Read the file and return its summary. Raises ConfigurationError when it cannot be read or holds no reading."""
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
