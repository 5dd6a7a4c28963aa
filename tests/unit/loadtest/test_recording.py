"""A recording is published line by line, at its own pace or at once; bad lines are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from sensorsync.loadtest import Recording
from sensorsync.loadtest.recording import MAX_LINE_BYTES
from sensorsync.messages.reading import ReadingDecoder


def line(second: int, seq: int = 0) -> bytes:
    return b'{"event_id":"e%d","device_id":"d","metric":"m","ts":"2026-01-02T03:04:%02dZ","value":1.5}' % (seq, second)


def recording(path: Path, *lines: bytes, speed: float | None = None) -> Recording:
    file = path / "readings.jsonl"
    file.write_bytes(b"\n".join(lines))
    return Recording(file, ReadingDecoder(), "t", speed=speed)


def test_lines_are_taken_as_they_stand_without_their_blanks(tmp_path: Path) -> None:
    made = recording(tmp_path, line(1, 1), b"  " + line(2, 2) + b"\r", b"", line(3, 3))
    assert not made.exhausted
    assert made.take(2, 0.0).payloads == [line(1, 1), line(2, 2)]
    assert made.take(2, 0.0).payloads == [line(3, 3)]
    assert (made.exhausted, made.take(2, 0.0).payloads, made.bad_line_count) == (True, [], 0)
    made.close()


def test_bad_lines_are_left_out_and_named_by_their_number(tmp_path: Path) -> None:
    made = recording(tmp_path, b"hello", line(1), b'{"device_id":"d"}', b"x" * (MAX_LINE_BYTES + 5), line(2))
    assert made.take(9, 0.0).payloads == [line(1), line(2)]
    assert [(bad.number, bad.reason) for bad in made.first_bad_lines] == [(1, "json"), (3, "metric"), (4, "too_large")]
    assert made.bad_line_count == 3
    made.close()


def test_only_the_first_bad_lines_are_reported(tmp_path: Path) -> None:
    made = recording(tmp_path, *[b"junk"] * 500, line(1))
    assert made.take(9, 0.0).payloads == [line(1)]
    assert made.bad_line_count == 500
    assert len(made.first_bad_lines) == 20
    made.close()


def test_with_a_speed_readings_are_due_at_that_factor_of_their_own_pace(tmp_path: Path) -> None:
    made = recording(tmp_path, line(0, 0), line(10, 1), line(10, 2), line(20, 3), speed=5)
    assert made.take(9, 1000.0).payloads == [line(0, 0)]
    assert made.due_in(1000.0) == 2.0
    assert made.take(9, 1001.9).payloads == []
    assert made.take(9, 1002.0).payloads == [line(10, 1), line(10, 2)]
    assert made.due_in(1003.5) == 0.5
    assert made.take(9, 1010.0).payloads == [line(20, 3)]
    assert made.due_in(1010.0) == 0.0
    made.close()


def test_an_empty_recording_is_exhausted_at_once(tmp_path: Path) -> None:
    made = recording(tmp_path, b"")
    assert made.exhausted
    made.close()


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Recording(tmp_path / "none", ReadingDecoder(), "t")
