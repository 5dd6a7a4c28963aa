"""The judge: each PUBACK is judged the moment it arrives.

On its connection: the id was delivered there, is not acknowledged yet, and comes in the order of delivery ([MQTT-4.6.0-2]). And by the
promise: the row of the message is visible to an independent connection, or its letter is in the box.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol

from tests.acceptance.nemesis.evidence import Letter
from tests.acceptance.nemesis.messages import Fate, Key, Message

MAX_DETAILS = 50
"""Violations that are described; all are counted."""


class Witness(Protocol):
    """Knows what is stored and parked at this moment."""

    def stored(self, messages: Iterable[Message]) -> AbstractSet[Key]:
        """Return the keys of those messages whose rows are visible."""
        ...

    def parked(self) -> AbstractSet[Letter]:
        """Return all letters of the box."""
        ...


@dataclass(frozen=True, slots=True)
class Violation:
    """One breach: its kind, and what is known about it."""

    kind: str
    detail: str
    at: float


@dataclass(slots=True)
class _Delivery:
    """One packet id that is not acknowledged: positions of its first and its latest copy in the order of sending."""

    message: Message
    first: int
    last: int


class Judge:
    """Collects the violations of one run. `clock` returns seconds since its beginning."""

    def __init__(self, evidence: Witness, clock: Callable[[], float]) -> None:
        self._evidence = evidence
        self._clock = clock
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self.judged = 0
        """PUBACKs."""
        self.acknowledged: set[Message] = set()

    def report(self, kind: str, detail: str) -> None:
        """Record a violation."""
        self.counts[kind] += 1
        if len(self.violations) < MAX_DETAILS:
            self.violations.append(Violation(kind, detail, round(self._clock(), 3)))

    def promise(self, messages: Iterable[Message], where: str) -> None:
        """Look for the row or the letter of each message, now, in one go."""
        acknowledged = list(messages)
        self.acknowledged.update(acknowledged)
        good = [message for message in acknowledged if message.fate is Fate.STORED]
        poison = [message for message in acknowledged if message.fate is Fate.PARKED]
        stored = self._evidence.stored(good) if good else set()
        lost = [message for message in good if message.key not in stored]
        parked = self._evidence.parked() if poison or lost else set()
        for message in lost:
            in_box = (message.topic, message.payload) in parked
            self.report("good_parked" if in_box else "acked_without_row", f"{message.label}, {where}")
        for message in poison:
            if (message.topic, message.payload) not in parked:
                self.report("acked_without_letter", f"{message.label}, {where}")


@dataclass(slots=True)
class ConnectionJudge:
    """What one connection may acknowledge. `earlier`: the ids that were delivered on earlier connections of its session."""

    judge: Judge
    label: str
    earlier: frozenset[int] = frozenset()
    _open: dict[int, _Delivery] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)
    _position: int = 0

    @property
    def delivered(self) -> frozenset[int]:
        """All ids that were delivered on this connection."""
        return frozenset(self._seen)

    def sent(self, packet_id: int, message: Message) -> None:
        """Record a PUBLISH of QoS 1 that was sent, the first or another copy of it."""
        self._position += 1
        self._seen.add(packet_id)
        delivery = self._open.get(packet_id)
        if delivery is None:
            self._open[packet_id] = _Delivery(message, self._position, self._position)
        else:
            delivery.last = self._position

    def acknowledged(self, acks: Iterable[tuple[int, int]]) -> None:
        """Judge the PUBACKs (packet id, reason code) of one read, in order."""
        paid: list[Message] = []
        for packet_id, reason in acks:
            self.judge.judged += 1
            delivery = self._open.get(packet_id)
            if reason >= 0x80:
                self.judge.report("refused", f"id {packet_id} with reason {reason:#x}, {self.label}")
            if delivery is None:
                self._unfounded(packet_id)
                continue
            self._in_order(packet_id, delivery)
            del self._open[packet_id]
            paid.append(delivery.message)
        self.judge.promise(paid, self.label)

    def _unfounded(self, packet_id: int) -> None:
        kind = "repeated" if packet_id in self._seen else "stale" if packet_id in self.earlier else "unknown_id"
        self.judge.report(kind, f"id {packet_id}, {self.label}")

    def _in_order(self, packet_id: int, delivery: _Delivery) -> None:
        """A resent message may be acknowledged at the place of any of its copies."""
        for other_id, other in self._open.items():
            if other.first >= delivery.first:
                break
            if other.last < delivery.first:
                self.judge.report("order", f"id {packet_id} before id {other_id}, {self.label}")
                break
