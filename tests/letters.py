"""Dead letters for tests: a box full of them, and what is in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from sensorsync.deadletters import Criteria, DeadLetters, StoredLetter
from sensorsync.pipeline.contract import DeadLetter

ARRIVAL = 1_767_322_800.25
"""2026-01-02 03:00:00.250000 UTC."""


def good(number: int, **changes: object) -> DeadLetter:
    """A letter that can be stored now. Two with the same number are the same message."""
    reading = {
        "event_id": f"event {number}",
        "device_id": f"device-{number % 10}",
        "metric": "temperature",
        "ts": f"2026-01-02T03:04:{number // 1000 % 60:02}.{number % 1000:03}Z",
        "value": number,
        **changes,
    }
    payload = json.dumps(reading).encode()
    return DeadLetter(f"t/{number % 10}", payload, 1, None, "signature", None, "a key was missing", ARRIVAL + number)


def junk(number: int) -> DeadLetter:
    """A letter that is no reading, and never will be."""
    return DeadLetter("t/junk", b"junk %d" % number, 1, None, "json", None, "not JSON", ARRIVAL + number)


def rejected_rows(message: str) -> list[int]:
    """The indices of rejected rows that a letter's message names, in order; none where it is no message of several rows."""
    indices: list[int] = []
    for spans in re.findall(r"(?:^rejected [^:]*: |; )\[([\d, -]+)\] ", message):
        for span in spans.split(", "):
            first, _, last = span.partition("-")
            indices += range(int(first), int(last or first) + 1)
    return sorted(indices)


def park(path: Path, letters: Iterable[DeadLetter]) -> None:
    """Put letters into the box at `path`."""
    box = DeadLetters(path)
    box.open()
    with closing(box):
        box.park(list(letters))


def in_box(path: Path, criteria: Criteria | None = None) -> list[StoredLetter]:
    """The letters in the box at `path`, in the order of their numbers."""
    box = DeadLetters(path)
    if not box.open_read_only():
        return []
    with closing(box):
        return list(box.letters(criteria))[::-1]


def left(path: Path) -> int:
    """How many letters are in the box."""
    box = DeadLetters(path)
    assert box.open_read_only()
    with closing(box):
        return sum(count.letters for count in box.reason_counts())
