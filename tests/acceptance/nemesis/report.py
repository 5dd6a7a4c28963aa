"""The end of a run: every row and every letter is compared with what was published, and the report is written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.nemesis.evidence import Letter
from tests.acceptance.nemesis.judge import Judge, Violation
from tests.acceptance.nemesis.messages import Fate, Key, Message, Values

_BUGS = frozenset({"forgotten", "writer_died"})
"""Events of the log that say that sensorsync found a fault of its own."""


@dataclass(slots=True)
class Report:
    """One run. Without violations the promise held."""

    seed: int
    combination: dict[str, Any]
    database: str
    seconds: float = 0.0
    published: int = 0
    good: int = 0
    poison: int = 0
    acks_judged: int = 0
    acks_under_fire: int = 0
    """Those before everything was healed."""
    rows: int = 0
    letters: int = 0
    broker: dict[str, int] = field(default_factory=dict)
    injected: dict[str, int] = field(default_factory=dict)
    deeds: dict[str, int] = field(default_factory=dict)
    exits: dict[str, int] = field(default_factory=dict)
    log_events: dict[str, int] = field(default_factory=dict)
    violation_counts: dict[str, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.violation_counts

    def json(self) -> str:
        """Return it as one JSON object."""
        return json.dumps({"ok": self.ok, **asdict(self)}, ensure_ascii=False)


def check_rows(
    judge: Judge, rows: Sequence[tuple[Any, ...]], messages: Iterable[Message], *, may_revise: bool = False
) -> None:
    """Compare the table (as COLUMNS) with the messages: each good one is one row with its values; there is no other row.

    `may_revise`: the conflict policy lets a copy take the place of the first one.
    """
    expected = {message.key: message for message in messages if message.key is not None}
    found: Counter[Key] = Counter()
    for device_id, metric, ts, event_id, value, value_text, unit, topic, payload, revised_at in rows:
        key = Key(device_id, metric, ts, event_id)
        found[key] += 1
        message = expected.get(key)
        if message is None:
            judge.report("foreign_row", f"{key} {payload!r:.300}")
            continue
        values = Values(value, value_text, unit, topic, json.loads(payload))
        if values != message.values or not (may_revise or revised_at is None):
            judge.report("changed_row", f"{message.label}: {values!r:.300}, revised at {revised_at}")
    for key, message in expected.items():
        if found[key] != 1:
            acked = "acknowledged" if message in judge.acknowledged else "never acknowledged"
            judge.report("missing_row", f"{message.label}, {acked}")


def check_letters(judge: Judge, letters: Counter[Letter], messages: Iterable[Message]) -> None:
    """Compare the box with the messages: each poison is one letter, and there is no other letter."""
    expected = {(m.topic, m.payload): m for m in messages if m.fate is Fate.PARKED}
    for letter, count in letters.items():
        if letter not in expected:
            judge.report("foreign_letter", f"{letter[0]}: {letter[1][:200]!r}")
        elif count != 1:
            judge.report("repeated_letter", f"{expected[letter].label}: {count} times")
    for letter, message in expected.items():
        if letter not in letters:
            acked = "acknowledged" if message in judge.acknowledged else "never acknowledged"
            judge.report("missing_letter", f"{message.label}, {acked}")


def check_log(judge: Judge, log: Path) -> Counter[str]:
    """Count the events of a subscriber's log; a bug that it reports itself is a violation."""
    events: Counter[str] = Counter()
    if not log.exists():
        return events
    for line in log.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
            event = str(record["event"])
        except (ValueError, KeyError, TypeError):
            events["no JSON"] += 1
            if line.startswith("Traceback"):
                judge.report("traceback", f"in {log.name}")
            continue
        events[event] += 1
        if event in _BUGS or "[BUG]" in str(record.get("message", "")):
            judge.report("bug_logged", line[:500])
    return events
