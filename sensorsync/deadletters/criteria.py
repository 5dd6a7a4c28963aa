"""Criteria that select letters."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from sensorsync.messages.topics import filter_matches

State = Literal["parked", "quarantined"]

FROM_INDEX: Final = "FROM letters INDEXED BY letters_by_reason WHERE"
"""The letters by a scan of that index.

The index is named because the planner would rather read the whole table than sort the rows from the index.
"""


@dataclass(frozen=True, slots=True)
class Criteria:
    """A selection of letters that meet all of the given criteria. Times are Unix time in seconds, of the letter's latest arrival."""

    reason: str | None = None
    errno: int | None = None
    device: str | None = None
    topic: str | None = None
    """A topic filter with MQTT's wildcards `+` and `#`."""
    since: float | None = None
    """The earliest time, included."""
    until: float | None = None
    """The end of the time range, excluded."""
    state: State | None = None

    @property
    def is_empty(self) -> bool:
        """True when no criterion is given, so that every letter is selected."""
        return self == Criteria()

    def sql_condition(self) -> tuple[str, list[Any]]:
        """Return an SQL condition on the columns of letters_by_reason, and its parameters. It needs the function `topic_matches`."""
        parts: list[tuple[str, list[Any]]] = [
            (condition, [value])
            for condition, value in (
                ("reason = ?", self.reason),
                ("errno = ?", self.errno),
                ("device = ?", self.device),
                ("last_seen >= ?", self.since),
                ("last_seen < ?", self.until),
                ("state = ?", self.state),
            )
            if value is not None
        ]
        if self.topic is not None:
            parts.append(_topic_condition(self.topic))
        return " AND ".join(condition for condition, _ in parts) or "1", [value for _, of in parts for value in of]


topic_matches = functools.lru_cache(maxsize=2**16)(filter_matches)
"""A cached version of `filter_matches`. There are many letters, but few topics."""


def _topic_condition(pattern: str) -> tuple[str, list[Any]]:
    """Return the condition in plain SQL as far as possible, because calling a function per letter takes three times as long.

    Topics compare byte for byte.
    """
    if not re.search("[+#]", pattern):
        return "topic = ?", [pattern]
    if pattern == "#":
        return (
            "(topic < '$' OR topic >= '%')",
            [],
        )  # `%` comes after `$`; topics that begin with `$` do not match a wildcard
    above = pattern.removesuffix("/#")
    if "+" not in above:
        return "(topic = ? OR (topic >= ? AND topic < ?))", [above, f"{above}/", f"{above}0"]  # `0` comes after `/`
    # `*` of GLOB matches slashes, too. In a topic with as many slashes as the filter it cannot match any of them.
    alike = re.sub(r"[*?\[]", r"[\g<0>]", above).replace("+", "*")
    if above == pattern:
        parts = [("topic GLOB ?", alike), ("topic NOT GLOB ?", "*" + "/*" * (above.count("/") + 1))]
    elif re.fullmatch(r"[^+]*\+(/\+)*", above):
        parts = [("topic GLOB ?", alike)]  # the last `*` matches the same levels as `#`
    else:
        parts = [("topic GLOB ?", f"{alike}*"), ("topic_matches(?, topic)", pattern)]
    if above.startswith("+"):
        parts.append(("topic NOT GLOB ?", "$*"))
    return " AND ".join(condition for condition, _ in parts), [value for _, value in parts]
