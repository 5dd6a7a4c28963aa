"""Topic filters with named levels: MQTT 5.0, section 4.7."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.mapping.topics import TopicPattern, TopicTemplate
from sensorsync.messages.topics import check_filter, filter_matches

_levels = st.sampled_from(["a", "b", "", "$x", ".*"])
_topics = st.lists(_levels, min_size=1, max_size=4).map("/".join).filter(bool)
_filters = (
    st.tuples(
        st.lists(_levels | st.sampled_from(["+", "{n}"]), min_size=1, max_size=3), st.sampled_from([[], ["#"], ["+"]])
    )
    .map(lambda both: "/".join(f"{{n{i}}}" if level == "{n}" else level for i, level in enumerate(both[0] + both[1])))
    .filter(bool)
)


@pytest.mark.parametrize(
    ("pattern", "topic", "levels"),
    [
        ("home/{room}/+/state", "home/kitchen/x/state", {"room": "kitchen"}),
        ("home/{room}/+/state", "home/kitchen/x/y/state", None),
        ("home/{room}/+/state", "home//x/state", {"room": ""}),
        ("a/{b}/#", "a/1", {"b": "1"}),
        ("a/{b}/#", "a/1/2/3", {"b": "1"}),
        ("a/{b}/#", "a", None),
        ("#", "a/b", {}),
        ("#", "$SYS/x", None),
        ("{a}/b", "$SYS/b", None),
        ("$SYS/{a}", "$SYS/b", {"a": "b"}),
        ("a.c", "abc", None),
        ("a/{b}", "a/line\nbreak", {"b": "line\nbreak"}),
        ("a/b", "a/b\n", None),
        ("a/#", "a/x\ny", {}),
    ],
)
def test_a_pattern_names_levels_of_the_topics_that_it_is_for(
    pattern: str, topic: str, levels: dict[str, str] | None
) -> None:
    assert TopicPattern(pattern).match(topic) == levels


def test_the_filter_is_what_a_broker_understands() -> None:
    pattern = TopicPattern("home/{room}/+/{x}/#")
    assert pattern.filter == "home/+/+/+/#"
    assert pattern.names == ("room", "x")


@given(_filters, _topics)
def test_a_pattern_matches_what_its_filter_covers(text: str, topic: str) -> None:
    pattern = TopicPattern(text)
    check_filter(pattern.filter)
    assert (pattern.match(topic) is not None) == filter_matches(pattern.filter, topic)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("a/\0", "NUL"),
        ("\ud800", "surrogate"),
        ("ü" * 40_000, "65535 bytes"),
        ("$share/g/a", "$share"),
        ("a/{b", "named level"),
        ("a/x{b}", "named level"),
        ("a/{b-c}", "named level"),
        ("a/{1}", "named level"),
        ("a/{}", "named level"),
        ("a/{b}/{b}", "twice"),
        ("a+/b", "+ must stand alone"),
        ("a/#/b", "# must be the last"),
        ("a/b#", "# must be the last"),
    ],
)
def test_an_invalid_filter_is_reported_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("$", r"\$").replace("+", r"\+")):
        TopicPattern(text)


def test_a_template_is_made_of_levels() -> None:
    assert TopicTemplate("{room}-{device}", ["device", "room"]).render({"room": "a", "device": "b"}) == "a-b"
    assert TopicTemplate("x/{a}{a}", ["a"]).render({"a": "{b}"}) == "x/{b}{b}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{rom}", "no level {rom} (named levels: room)"),
        ("{room", "a brace"),
        ("{room}}", "a brace"),
        ("x", "use constant"),
    ],
)
def test_a_template_names_only_levels_that_the_topic_names(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        TopicTemplate(text, ["room"])
    assert said in str(caught.value)
