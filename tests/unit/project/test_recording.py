"""The recording in examples/data is what its README says."""

from __future__ import annotations

from pathlib import Path

from sensorsync.messages.reading import Reading, ReadingDecoder

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "kjfk-2013.jsonl"


def test_every_line_of_the_recording_is_a_reading_with_a_key_of_its_own() -> None:
    decoder = ReadingDecoder()
    readings = [decoder.decode(line, "sensors/live/KJFK", 0.0) for line in RECORDING.read_bytes().splitlines()]
    assert [r for r in readings if not isinstance(r, Reading)] == []
    assert len({r[:4] for r in readings}) == len(readings) == 17_409


def test_the_recording_is_in_order_of_time() -> None:
    times = [line.split('"ts":"')[1][:20] for line in RECORDING.read_text(encoding="utf-8").splitlines()]
    assert times == sorted(times)
    assert (times[0], times[-1]) == ("2013-01-01T06:00:00Z", "2013-12-30T23:00:00Z")
