"""Criteria: which letters are meant."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from sensorsync.messages.topics import filter_matches

State = Literal["parked", "quarantined"]

FROM_INDEX: Final = "FROM letters INDEXED BY letters_by_reason WHERE"
"""The letters by that index alone, and so named: the planner would rather read the whole table than sort what the index gives."""


@dataclass(frozen=True, slots=True)
class Criteria:
    """A letter is meant when it fits all that is said here. Times are Unix time in seconds, of the letter's latest arrival."""

    reason: str | None = None
    errno: int | None = None
    device: str | None = None
    topic: str | None = None
    """A topic filter with MQTT's wildcards `+` and `#`."""
    since: float | None = None
    """This or later."""
    until: float | None = None
    """Before this."""
    state: State | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said, so that every letter is meant."""
        return self == Criteria()

    def sql_condition(self) -> tuple[str, list[Any]]:
        """A condition in SQL on the columns of letters_by_reason, and its parameters. It needs `topic_matches`."""
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
"""Whether a topic filter matches a topic. Letters are many, their topics few."""


def _topic_condition(pattern: str) -> tuple[str, list[Any]]:
    """In SQL as far as it can say it: a function called for each letter takes three times as long. Topics compare byte for byte."""
    if not re.search("[+#]", pattern):
        return "topic = ?", [pattern]
    if pattern == "#":
        return "(topic < '$' OR topic >= '%')", []  # `%` comes after `$`, where wildcards do not reach
    above = pattern.removesuffix("/#")
    if "+" not in above:
        return "(topic = ? OR (topic >= ? AND topic < ?))", [above, f"{above}/", f"{above}0"]  # `0` comes after `/`
    # `*` of GLOB matches slashes, too; but where there are just as many as in the filter, none is left for it to match.
    alike = re.sub(r"[*?\[]", r"[\g<0>]", above).replace("+", "*")
    if above == pattern:
        parts = [("topic GLOB ?", alike), ("topic NOT GLOB ?", "*" + "/*" * (above.count("/") + 1))]
    elif re.fullmatch(r"[^+]*\+(/\+)*", above):
        parts = [("topic GLOB ?", alike)]  # the last `*` reaches as far as `#` does
    else:
        parts = [("topic GLOB ?", f"{alike}*"), ("topic_matches(?, topic)", pattern)]
    if above.startswith("+"):
        parts.append(("topic NOT GLOB ?", "$*"))
    return " AND ".join(condition for condition, _ in parts), [value for _, value in parts]
