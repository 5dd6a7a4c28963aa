"""Which letters are meant."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sensorsync.deadletters import Criteria, DeadLetters, guess_device, topic_matches
from sensorsync.messages.envelope import Key, Signer
from sensorsync.messages.topics import filter_matches
from sensorsync.pipeline.contract import DeadLetter

NOW = 1_767_322_800.0


def parked(number: int, device: str, reason: str, errno: int | None = None) -> DeadLetter:
    payload = json.dumps({"device_id": device, "n": number}).encode()
    return DeadLetter(f"plant/{device}/t", payload, 1, None, reason, errno, "m", NOW + number)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[DeadLetters]:
    box = DeadLetters(tmp_path / "box.sqlite")
    box.open()
    box.park(
        [
            parked(1, "boiler", "json"),
            parked(2, "boiler", "database", 1406),
            parked(3, "pump", "database", 1264),
            parked(4, "pump", "ts"),
            DeadLetter("other", b"\xff", 0, None, "encoding", None, "m", NOW + 5),
        ]
    )
    with box._file.write_transaction() as connection:
        connection.execute("UPDATE letters SET state = 'quarantined' WHERE id = 4")
    yield box
    box.close()


@pytest.mark.parametrize(
    ("criteria", "ids"),
    [
        (Criteria(), [1, 2, 3, 4, 5]),
        (Criteria(reason="database"), [2, 3]),
        (Criteria(errno=1264), [3]),
        (Criteria(device="boiler"), [1, 2]),
        (Criteria(device="boiler", reason="json"), [1]),
        (Criteria(topic="other"), [5]),
        (Criteria(topic="plant/+/t"), [1, 2, 3, 4]),
        (Criteria(topic="plant/pump/#"), [3, 4]),
        (Criteria(topic="+/pump/#"), [3, 4]),
        (Criteria(topic="plant/+/#", reason="database"), [2, 3]),
        (Criteria(topic="+"), [5]),
        (Criteria(since=NOW + 4), [4, 5]),
        (Criteria(until=NOW + 2), [1]),
        (Criteria(since=NOW + 2, until=NOW + 4), [2, 3]),
        (Criteria(state="quarantined"), [4]),
        (Criteria(state="parked", device="pump"), [3]),
        (Criteria(reason="nothing"), []),
    ],
)
def test_a_letter_is_selected_when_it_meets_all_criteria(box: DeadLetters, criteria: Criteria, ids: list[int]) -> None:
    assert box.ids(criteria).tolist() == ids
    assert [letter.id for letter in box.letters(criteria)] == ids[::-1]
    assert sum(count.letters for count in box.reason_counts(criteria)) == len(ids)


def test_only_empty_criteria_select_all_letters() -> None:
    assert Criteria().is_empty
    assert not replace(Criteria(), errno=0).is_empty


levels = st.sampled_from(["a", "b", "", "$x", "0", "%", "line\nbreak", "ü", "*", "a?", "[ab]"])
topics = st.lists(levels, min_size=1, max_size=4).map("/".join)
filters = st.builds(
    lambda some, end: "/".join([*some, *end]),
    st.lists(levels | st.just("+"), min_size=1, max_size=4),
    st.sampled_from([[], ["#"]]),
) | st.just("#")


@given(filters, st.lists(topics, min_size=1, max_size=5))
@example("a/#", ["a", "a/", "a/b/c", "a0", "ab", "b/a"])
@example("#", ["", "a", "$x", "%", "#"])
@example("a/+/b/#", ["a/x/b", "a/x/b/c", "a/x/y/b", "a/x/bc", "a//b/"])
@example("+/[ab]/*", ["x/a/y", "x/[ab]/*", "$x/[ab]/*"])
def test_topics_are_matched_as_a_broker_does_it(pattern: str, some: list[str]) -> None:
    where, parameters = Criteria(topic=pattern).sql_condition()
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.create_function("topic_matches", 2, topic_matches)
        connection.execute("CREATE TABLE letters (topic TEXT)")
        connection.executemany("INSERT INTO letters VALUES (?)", [(topic,) for topic in some])
        found = [topic for (topic,) in connection.execute(f"SELECT topic FROM letters WHERE {where}", parameters)]
    assert found == [topic for topic in some if filter_matches(pattern, topic)]


def test_the_device_of_a_letter_is_taken_from_whatever_can_be_read() -> None:
    plain = b'{"device_id": "boiler", "ts": 1}'
    signed = Signer(Key("k", b"x" * 32)).sign(plain)
    assert guess_device("t", plain) == guess_device("t", signed) == "boiler"
    assert [guess_device("t", odd) for odd in (b"", b"\xff", b"[1]", b'{"device_id": 7}', b"a.b.c", b"e.!.x")] == [
        None
    ] * 6
    assert guess_device("plant/pump/t", plain, 1) == "pump"
    assert guess_device("plant", plain, 1) is None
    assert guess_device("t", b'{"device_id": "boiler", "x": "' + b"x" * 2**21 + b'"}') is None
