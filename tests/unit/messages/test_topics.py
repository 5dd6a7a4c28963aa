from __future__ import annotations

import pytest

from sensorsync.messages.topics import (
    check_filter,
    check_group,
    check_identifier,
    check_name,
    filter_includes,
    filter_matches,
    filters_overlap,
)


@pytest.mark.parametrize(
    "good",
    ["#", "+", "sensors/live/#", "sensors/+/temperature", "/", "a//b", "$SYS/#", "+/+/#", "sport/tennis/player1"],
)
def test_a_filter_that_mqtt_allows_is_taken(good: str) -> None:
    assert check_filter(good) == good


@pytest.mark.parametrize(
    "bad", ["", "a/#/b", "sensors#", "a/b#", "sensors+", "a/+b/c", "a\0b", "x" * 65536, "$share/g/a", "\ud800"]
)
def test_a_filter_that_mqtt_forbids_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_filter(bad)


@pytest.mark.parametrize("bad", ["", "a/+", "#", "a\0"])
def test_a_topic_to_publish_to_has_no_wildcards(bad: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_name(bad)


@pytest.mark.parametrize("bad", ["", "a/b", "a+", "#"])
def test_a_group_has_no_slash_and_no_wildcards(bad: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_group(bad)


@pytest.mark.parametrize("bad", ["", "a/b", "a\nb", "#"])
def test_a_part_of_a_client_id_is_plain(bad: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_identifier(bad)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("#", "a/b", True),
        ("+/+", "a/b", True),
        ("+", "/a", False),
        ("+/+", "/a", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
    ],
)
def test_a_filter_matches_the_topics_of_the_specification(topic_filter: str, topic: str, expected: bool) -> None:
    assert filter_matches(topic_filter, topic) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/+", "a/b", True),
        ("a/+/c", "+/b/+", True),
        ("a/+/c", "+/b/d", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "b/#", False),
        ("a/+", "a", False),
        ("a/+/#", "a", False),
        ("a/+/#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("#", "+/a", True),
    ],
)
def test_two_filters_overlap_where_a_topic_fits_both(one: str, other: str, expected: bool) -> None:
    assert filters_overlap(one, other) is expected
    assert filters_overlap(other, one) is expected


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/b", "a/+", False),
        ("a/#", "a/+/c", True),
        ("a/#", "a", True),
        ("a/#", "a/#", True),
        ("a/+/#", "a/#", False),
        ("a/+", "a/#", False),
        ("a/+", "a", False),
        ("a", "a/b", False),
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
    ],
)
def test_a_filter_includes_another_when_it_matches_all_of_its_topics(wide: str, narrow: str, expected: bool) -> None:
    assert filter_includes(wide, narrow) is expected
