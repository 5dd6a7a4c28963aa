"""The mapping that decides about a message, and the reasons against the others, as in `Mappings.decode`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.mapping import FormatSpec, Mappings, MappingSpec, ReadingSpec, Source
from sensorsync.messages.mapping.explaining import PassedOver, explain_choice
from sensorsync.messages.mapping.model import FormatName
from sensorsync.messages.reading import Rejected


def spec(name: str, topic: str = "a/#", when: str | None = None, format_name: FormatName = "json") -> MappingSpec:
    return MappingSpec(
        name,
        topic,
        FormatSpec(format_name),
        when=when,
        event_id=(Source(path="id"),),
        device_id=Source(constant="d"),
        ts=Source(path="ts"),
        readings=(ReadingSpec(Source(constant=name), Source(path="v")),),
        single=True,
    )


def test_the_first_mapping_whose_condition_holds_is_chosen() -> None:
    mappings = Mappings([spec("one", "b"), spec("two", when="type == 'up'"), spec("three"), spec("four")])
    taken = explain_choice(mappings, b'{"type": "join"}', "a/b")
    assert taken.mapping == "three"
    assert taken.passed_over == (
        PassedOver("one", "topic", "its topic is b"),
        PassedOver("two", "when", "its condition is false, when: type == 'up'; the message has type"),
    )


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"{}", "its condition is null, when: up; the message is an object"),
        (b'{"up": ""}', "its condition is empty, when: up; the message has up"),
        (b"21.5", "its condition is null, when: up; the message is a number"),
        (
            json.dumps({f"member-{n:045}": n for n in range(14)}).encode(),
            "its condition is null, when: up; the message has "
            + ", ".join(f"member-{'0' * 33}..." for _ in range(12))
            + " and 2 more",
        ),
    ],
)
def test_a_false_condition_is_reported_with_the_available_members(payload: bytes, said: str) -> None:
    explained = explain_choice(Mappings([spec("one", when="up")]), payload, "a")
    assert explained.mapping is None
    assert explained.passed_over == (PassedOver("one", "when", said),)


def test_a_payload_of_another_format_is_for_the_next_mapping_only_where_there_is_a_condition() -> None:
    explained = explain_choice(Mappings([spec("one", when="up"), spec("two", format_name="value")]), b"not json", "a")
    assert explained.mapping == "two"
    assert [passed.reason for passed in explained.passed_over] == ["format"]
    assert explained.passed_over[0].message.endswith("; its format is json")
    assert explain_choice(Mappings([spec("one"), spec("two")]), b"not json", "a").mapping == "one"


def test_a_condition_that_fails_rejects_the_message_when_no_other_mapping_takes_it() -> None:
    failing = spec("one", when="length(v) > `1`")
    explained = explain_choice(Mappings([failing, spec("two", when="up")]), b'{"v": 1}', "a")
    assert explained.mapping == "one"
    assert [passed.reason for passed in explained.passed_over] == ["when", "when"]
    assert explained.passed_over[0].message.startswith("its condition fails: ")
    assert explain_choice(Mappings([failing, spec("two")]), b'{"v": 1}', "a").mapping == "two"


def test_a_payload_that_is_too_large_is_the_first_ones_of_its_topic() -> None:
    mappings = Mappings([spec("one", "b"), spec("two", when="up")], max_payload=10)
    assert explain_choice(mappings, b" " * 11, "a").mapping == "two"


CONDITIONS = st.sampled_from([None, "up", "v > `1`", "length(v) > `1`", "!up"])
DOCUMENTS = st.sampled_from(
    [b"{}", b'{"up": true}', b'{"v": 2}', b'{"v": "12"}', b"21.5", b"[1]", b"nothing", b"", b"\xff"]
)


@given(
    st.lists(st.tuples(CONDITIONS, st.sampled_from(["a", "b", "+", "#"]), st.sampled_from(["json", "value", "senml"]))),
    DOCUMENTS,
    st.sampled_from(["a", "b", "c", "$a"]),
)
def test_it_names_the_mapping_that_decode_chooses(
    asked: list[tuple[str | None, str, FormatName]], payload: bytes, topic: str
) -> None:
    mappings = Mappings([spec(f"m{n}", pattern, when, name) for n, (when, pattern, name) in enumerate(asked)])
    decoded = mappings.decode(payload, topic, None, 0.0)
    explained = explain_choice(mappings, payload, topic)
    assert (decoded is None) == (explained.mapping is None)
    if isinstance(decoded, Rejected):
        assert decoded.message.startswith(f"{explained.mapping}: ")
