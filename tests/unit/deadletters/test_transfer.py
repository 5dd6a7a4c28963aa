"""Letters as lines: what goes out comes back."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.deadletters import Criteria, DeadLetters, ReplayRejection, StoredLetter, message_identity
from sensorsync.deadletters.transfer import letter_from_line, letter_to_line
from sensorsync.pipeline.contract import DeadLetter

NOW = 1_767_322_800.25

texts = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.integers(0, 2**62)
times = st.floats(0, 1e12)
errnos = st.none() | st.integers(-(2**31), 2**31)


@st.composite
def letters(draw: st.DrawFn) -> StoredLetter:
    topic, payload = draw(texts), draw(st.binary(max_size=50))
    names = texts | st.sampled_from(["content_type", "user_properties"])
    properties = draw(st.none() | st.dictionaries(names, st.text(max_size=5) | st.lists(texts)))
    return StoredLetter(
        id=0,
        sha256=message_identity(topic, payload, properties),
        state=draw(st.sampled_from(["parked", "quarantined"])),
        reason=draw(texts),
        errno=draw(errnos),
        device=draw(st.none() | texts),
        first_seen=draw(times),
        last_seen=draw(times),
        seen=draw(numbers),
        attempts=draw(numbers),
        next_retry_at=draw(times),
        refused_at=draw(times),
        qos=draw(st.integers(0, 2)),
        topic=topic,
        message=draw(texts),
        properties=properties,
        history=draw(
            st.lists(
                st.fixed_dictionaries(
                    {"at": times, "attempt": numbers, "reason": texts, "errno": errnos, "message": texts}
                ),
                max_size=3,
            )
        ),
        size=len(payload),
        payload=payload,
    )


@given(letters())
def test_a_letter_comes_back_from_its_line_as_it_was(letter: StoredLetter) -> None:
    line = letter_to_line(letter)
    assert line.count(b"\n") == 1
    assert letter_from_line(line) == letter


def test_an_imported_box_is_the_exported_one_and_importing_again_changes_nothing(tmp_path: Path) -> None:
    # Given: a box with letters that have a history, and one that is quarantined.
    first, second = DeadLetters(tmp_path / "first.sqlite"), DeadLetters(tmp_path / "second.sqlite")
    first.open()
    second.open()
    first.park([DeadLetter("t", bytes([n, 255]), 1, {"k": b"v"}, "json", None, "m", NOW + n) for n in range(5)])
    taken = first.get_many(first.ids(Criteria()))
    first.finish_batch(
        [taken[0].version], [ReplayRejection(taken[1], "ts", None, "no ts", "quarantined", NOW + 99)], NOW + 9
    )
    lines = [letter_to_line(letter) for letter in first.letters()]
    assert len(lines) == 4
    # When: it is imported, twice.
    assert second.restore(map(letter_from_line, lines)) == 4
    assert second.restore(map(letter_from_line, lines)) == 0
    # Then: only the numbers differ.
    original = {letter.sha256: letter._replace(id=0) for letter in first.letters()}
    assert {letter.sha256: letter._replace(id=0) for letter in second.letters()} == original
    first.close()
    second.close()


def test_what_was_imported_is_known_when_it_is_delivered_again(tmp_path: Path) -> None:
    box = DeadLetters(tmp_path / "box.sqlite")
    box.open()
    parked = DeadLetter("t", b"x", 1, None, "json", None, "m", NOW)
    box.park([parked])
    (line,) = map(letter_to_line, box.letters())
    box.purge(Criteria())
    assert box.restore([letter_from_line(line)]) == 1
    assert box.park([parked]) == 0
    box.close()


def line(**changes: Any) -> bytes:
    letter = DeadLetter("t", b"x", 1, None, "json", None, "m", NOW)
    plain = {
        "letter": 1, "state": "parked", "reason": letter.reason, "errno": None, "device": None, "first_seen": NOW, "last_seen": NOW,
        "seen": 1, "attempts": 0, "next_retry_at": 0.0, "refused_at": NOW, "qos": 1, "topic": "t", "message": "m", "properties": None,
        "history": [], "payload": base64.b64encode(b"x").decode(),
    }  # fmt: skip
    return json.dumps({**plain, **changes}).encode()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"", "Expecting value"),
        (b"\xff", "decode"),
        (b"[" * 100_000, "nested"),
        (b"[]", "it: "),
        (b"{}", "letter: Field required"),
        (line(letter=2), "letter: Input should be 1"),
        (line(state="lost"), "state: "),
        (line(errno=2**70), "errno: "),
        (line(first_seen=float("nan")), "first_seen: "),
        (line(qos=3), "qos: "),
        (line(payload="%"), "payload is not base64"),
        (line(properties=[1]), "properties: "),
        (line(history=[{"at": 1.0}]), "history.0."),
        (line(more=1), "more: "),
    ],
)
def test_a_line_that_is_no_letter_is_refused_with_the_reason(bad: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        letter_from_line(bad)


def test_a_letter_of_plain_numbers_is_a_letter() -> None:
    """As other programs write it: `0` for a time."""
    assert letter_from_line(line(next_retry_at=0, first_seen=1)).first_seen == 1.0
