"""Topic names and filters as MQTT 5.0 section 4.7 allows them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

MAX_BYTES = 65535
"""Bytes of the longest UTF-8 string that MQTT can carry ([MQTT-4.7.3-3])."""


def check_filter(topic_filter: str) -> str:
    """Return `topic_filter` when it can be subscribed to.

    Raises ValueError with a sentence otherwise ([MQTT-4.7.1-1], [MQTT-4.7.1-2]).
    """
    _check_text(topic_filter)
    if topic_filter.startswith("$share/"):
        raise ValueError("must not begin with $share/: the group is set by mqtt.group, write the filter alone")
    levels = topic_filter.split("/")
    if any("#" in level for level in levels[:-1]) or ("#" in levels[-1] and levels[-1] != "#"):
        raise ValueError("# must be the last level and stand alone in it, as in sensors/live/#")
    if any("+" in level and level != "+" for level in levels):
        raise ValueError("+ must stand alone in its level, as in sensors/+/temperature")
    return topic_filter


def filters_overlap(one: str, other: str) -> bool:
    """Return True when there is a topic that both filters match."""
    ours, theirs = one.split("/"), other.split("/")
    if {ours[0][:1], theirs[0][:1]} in ({"$", "#"}, {"$", "+"}):
        return False
    for mine, yours in zip(ours, theirs, strict=False):
        if "#" in {mine, yours}:
            return True
        if mine != yours and "+" not in {mine, yours}:
            return False
    # `a/#` also matches `a` (section 4.7.1.2).
    longer = max(ours, theirs, key=len)[min(len(ours), len(theirs)) :]
    return not longer or longer == ["#"]


def filter_includes(wide: str, narrow: str) -> bool:
    """Return True when the filter `wide` matches every topic that the filter `narrow` matches."""
    ours, theirs = wide.split("/"), narrow.split("/")
    if ours[0] in {"+", "#"} and theirs[0].startswith("$"):
        return False
    for place, mine in enumerate(ours):
        if mine == "#":  # it also matches the parent level (section 4.7.1.2)
            return True
        yours = theirs[place] if place < len(theirs) else "#"
        if yours == "#" or mine not in {"+", yours}:
            return False
    return len(ours) == len(theirs)


def check_name(topic: str) -> str:
    """Return `topic` when it can be published to. Raises ValueError with a sentence otherwise ([MQTT-3.3.2-2])."""
    _check_text(topic)
    if "+" in topic or "#" in topic:
        raise ValueError("a topic to publish to has no + and no #")
    return topic


def check_group(group: str) -> str:
    """Return `group` when it can name a shared subscription. Raises ValueError otherwise ([MQTT-4.8.2-1], [MQTT-4.8.2-2])."""
    _check_text(group)
    if any(character in group for character in "/+#"):
        raise ValueError("the name of a group has no /, + or #")
    return group


def check_identifier(text: str) -> str:
    """Return `text` when it can be a part of a client id. Raises ValueError otherwise."""
    _check_text(text)
    if any(character in text for character in "/+#") or not text.isprintable():
        raise ValueError("a part of a client id has no /, + or # and no control characters")
    return text


def filter_matches(topic_filter: str, topic: str) -> bool:
    """Return True when a filter matches a topic name (section 4.7.1).

    A wildcard in the first level does not match topics that begin with $ ([MQTT-4.7.2-1]).
    """
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:
        return False
    if wanted[-1] == "#":
        wanted, levels = wanted[:-1], levels[: len(wanted) - 1]
    return len(wanted) == len(levels) and all(one in {"+", level} for one, level in zip(wanted, levels, strict=True))


def _check_text(text: str) -> None:
    if not text:
        raise ValueError("must not be empty")
    if "\0" in text:
        raise ValueError("must not contain the NUL character")
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid UTF-8") from None
    if len(encoded) > MAX_BYTES:
        raise ValueError(f"must not be longer than {MAX_BYTES} bytes")


TopicFilter = Annotated[str, AfterValidator(check_filter)]
TopicName = Annotated[str, AfterValidator(check_name)]
GroupName = Annotated[str, AfterValidator(check_group)]
ClientIdPart = Annotated[str, AfterValidator(check_identifier)]
