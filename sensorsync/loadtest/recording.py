"""A recording of readings, one JSON object per line, published again as fast as possible or at a factor of its own pace."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sensorsync.messages.reading import ReadingDecoder, Rejected
from sensorsync.mqtt.publisher.feed import Burst

MAX_LINE_BYTES = 2**20
"""Bytes of a line, at most. A longer line is bad, and is skipped without being held in memory."""
_MAX_REPORTED_LINES = 20


class BadRecordingLine(NamedTuple):
    """A line that is not a reading."""

    number: int
    """Number of the line, counted from 1."""
    reason: str
    message: str


class Recording:
    """A file of readings that is read while it is published and never held whole.

    `speed` is the factor to the readings' own timestamps, None for no pace. `now` is Unix time in seconds. A line that
    the subscriber's own decoder would reject is not published but counted. The first such lines are in
    `first_bad_lines`. Raises OSError when the file cannot be read.
    """

    def __init__(self, path: Path, decoder: ReadingDecoder, topic: str, *, speed: float | None = None) -> None:
        self._file = path.open("rb")
        self._decoder = decoder
        self._topic = topic
        self._speed = speed
        self._lines = self._valid_readings()
        self._next_reading: tuple[float, bytes] | None = None
        self._playback_start: tuple[float, float] | None = None
        self.exhausted = False
        self.bad_line_count = 0
        self.first_bad_lines: list[BadRecordingLine] = []
        self._advance()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def due_in(self, now: float) -> float:
        """Return the seconds until the next reading is due; 0 when it is due, or when there is none."""
        return max(0.0, self._due_at(now) - now)

    def take(self, limit: int, now: float) -> Burst:
        """Return the next readings that are due, at most `limit`, as they are in the file."""
        payloads: list[bytes] = []
        since: list[float] = []
        while self._next_reading is not None and len(since) < limit and (due := self._due_at(now)) <= now:
            payloads.append(self._next_reading[1])
            since.append(due)
            self._advance()
        return Burst(payloads, since)

    def _due_at(self, now: float) -> float:
        """Return the time when the next reading is due."""
        if self._next_reading is None or self._speed is None:
            return now
        if self._playback_start is None:
            self._playback_start = (now, self._next_reading[0])
        began, first = self._playback_start
        return began + (self._next_reading[0] - first) / self._speed

    def _advance(self) -> None:
        self._next_reading = next(self._lines, None)
        self.exhausted = self._next_reading is None

    def _valid_readings(self) -> Iterator[tuple[float, bytes]]:
        number = 0
        while line := self._file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                self._skip_rest(line)
                self._record_bad_line(number, Rejected("too_large", f"the line has more than {MAX_LINE_BYTES} bytes"))
                continue
            line = line.strip()
            if not line:
                continue
            reading = self._decoder.decode(line, self._topic, 0.0)
            if isinstance(reading, Rejected):
                self._record_bad_line(number, reading)
            else:
                yield self._timestamp(reading.ts), line

    def _timestamp(self, ts: str) -> float:
        return 0.0 if self._speed is None else datetime.fromisoformat(f"{ts}+00:00").timestamp()

    def _skip_rest(self, line: bytes) -> None:
        while line and not line.endswith(b"\n"):
            line = self._file.readline(MAX_LINE_BYTES)

    def _record_bad_line(self, number: int, rejected: Rejected) -> None:
        self.bad_line_count += 1
        if len(self.first_bad_lines) < _MAX_REPORTED_LINES:
            self.first_bad_lines.append(BadRecordingLine(number, rejected.reason, rejected.message))
