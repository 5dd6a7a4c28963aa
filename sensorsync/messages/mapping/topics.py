"""Topic filters with named levels, and texts that are made of those levels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_MAX_BYTES = 65535
"""Bytes of the longest UTF-8 string that MQTT can carry ([MQTT-4.7.3-3])."""
_NAMED_LEVEL = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class TopicPattern:
    """A topic filter whose `+` levels may have names: `home/{room}/+/state`, `site/{plant}/#`."""

    def __init__(self, text: str) -> None:
        """Parse a topic filter. Raises ValueError with a sentence when it is not valid (MQTT 5.0, section 4.7.1)."""
        levels = text.split("/")
        _check(text, levels)
        names = [named[1] for level in levels if (named := _NAMED_LEVEL.fullmatch(level))]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{{{name}}} stands in it twice: each level needs a name of its own")
        self.names = tuple(names)
        self.filter = "/".join("+" if _NAMED_LEVEL.fullmatch(level) else level for level in levels)
        """The topic filter of MQTT, without names."""
        self._matches = _compile_regex(levels).fullmatch
        self._starts_with_wildcard = self.filter[0] in "+#"

    def match(self, topic: str) -> dict[str, str] | None:
        """Return the named levels of `topic`, or None when the filter does not match it.

        A wildcard in the first level does not match topics that begin with $ ([MQTT-4.7.2-1]).
        """
        if self._starts_with_wildcard and topic.startswith("$"):
            return None
        found = self._matches(topic)
        return None if found is None else found.groupdict()


class TopicTemplate:
    """A text with named levels in braces: `{room}-{device}`."""

    def __init__(self, text: str, names: Sequence[str]) -> None:
        """Parse a template. Raises ValueError with a sentence when it names a level that the topic does not name."""
        self._parts = _NAMED_LEVEL.split(text)  # text, name, text, name, ..., text
        if any("{" in part or "}" in part for part in self._parts[::2]):
            raise ValueError(f"{text!r} has a brace that belongs to no name: names are letters, digits and _")
        for name in self._parts[1::2]:
            if name not in names:
                known = ", ".join(names) or "none"
                raise ValueError(f"the topic has no level {{{name}}} (named levels: {known})")
        if len(self._parts) == 1:
            raise ValueError(f"{text!r} names no level of the topic: use constant for a fixed text")

    def render(self, levels: Mapping[str, str]) -> str:
        """Return the text for these levels."""
        return "".join(levels[part] if place % 2 else part for place, part in enumerate(self._parts))


def _check(text: str, levels: list[str]) -> None:
    if not text:
        raise ValueError("the topic is empty")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("a topic has no NUL and no half of a surrogate pair")
    if len(text.encode()) > _MAX_BYTES:
        raise ValueError(f"a topic has at most {_MAX_BYTES} bytes")
    if levels[0] == "$share":
        raise ValueError("write the filter alone, without $share and the group: topics of messages never have them")
    for level in levels:
        if ("{" in level or "}" in level) and not _NAMED_LEVEL.fullmatch(level):
            raise ValueError(
                f"level {level!r}: a named level is a name in braces and nothing else, such as {{room}} "
                "(letters, digits and _, no digit first)"
            )
        if "+" in level and level != "+":
            raise ValueError(f"level {level!r}: + must stand alone in its level")
    if any("#" in level for level in levels[:-1]) or ("#" in levels[-1] and levels[-1] != "#"):
        raise ValueError("# must be the last level and stand alone in it")


def _compile_regex(levels: list[str]) -> re.Pattern[str]:
    parts = []
    for level in levels:
        if named := _NAMED_LEVEL.fullmatch(level):
            parts.append(f"(?P<{named[1]}>[^/]*)")
        else:
            parts.append("[^/]*" if level == "+" else re.escape(level))
    if levels == ["#"]:
        return re.compile(".*", re.DOTALL)
    if levels[-1] == "#":  # it also matches the parent level
        return re.compile("/".join(parts[:-1]) + "(?:/.*)?", re.DOTALL)
    return re.compile("/".join(parts))
