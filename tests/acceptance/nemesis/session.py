"""What the broker remembers: sessions, shared subscriptions, and messages on their way."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.acceptance.nemesis.messages import Message
from tests.acceptance.nemesis.mqtt_bytes import MAX_PACKET_ID

if TYPE_CHECKING:
    from tests.acceptance.nemesis.connection import BrokerConnection


@dataclass(eq=False)
class Group:
    """A shared subscription: one queue for all of its members."""

    filter: str
    queue: deque[Message] = field(default_factory=deque)


class Sent(NamedTuple):
    """A message in flight; `group` is None when it came by a subscription of the session's own."""

    message: Message
    group: Group | None


@dataclass(eq=False)
class Session:
    """One client's session. `ids`: how packet ids are chosen, `lowest`, `next` or `few` (any of a few: ids are reused at once)."""

    client_id: str
    rng: random.Random
    ids: str
    expiry: int = 0
    """Seconds, as CONNECT stated it; 0: it ends with its connection."""
    subscriptions: dict[str, Group | None] = field(default_factory=dict)
    """Topic filter as sent -> its group."""
    in_flight: dict[int, Sent] = field(default_factory=dict)
    """Sent and not acknowledged, in the order of sending."""
    queue: deque[Message] = field(default_factory=deque)
    """Of the session's own subscriptions."""
    resend: deque[int] = field(default_factory=deque)
    """Ids in flight that this connection has not seen yet: they come first, in their order ([MQTT-4.4.0-1])."""
    delivered: frozenset[int] = frozenset()
    """Ids that were delivered on any earlier connection."""
    connection: BrokerConnection | None = None
    _latest_id: int = 0

    @property
    def groups(self) -> list[Group]:
        """The groups that it is a member of."""
        return [group for group in self.subscriptions.values() if group is not None]

    def next_message(self) -> Sent | None:
        """Take the next message for this session out of its queues."""
        if self.queue:
            return Sent(self.queue.popleft(), None)
        waiting = [group for group in self.groups if group.queue]
        if not waiting:
            return None
        group = self.rng.choice(waiting)
        return Sent(group.queue.popleft(), group)

    def take_id(self) -> int:
        """Return a packet id that is not in flight."""
        if self.ids == "few":
            free = [number for number in range(1, 2 * len(self.in_flight) + 3) if number not in self.in_flight]
            return self.rng.choice(free)
        number = 0 if self.ids == "lowest" else self._latest_id
        while True:
            number = number % MAX_PACKET_ID + 1
            if number not in self.in_flight:
                self._latest_id = number
                return number

    def give_back(self) -> None:
        """The session is lost or expired: what it holds for a group goes to the other members, some in another order."""
        for sent in reversed(self.in_flight.values()):
            queue = self.queue if sent.group is None else sent.group.queue
            if self.rng.random() < 0.5:
                queue.appendleft(sent.message)
            else:
                queue.append(sent.message)
        self.in_flight.clear()
        self.resend.clear()


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic filter, without its `$share/GROUP/`, takes a topic (MQTT 5, section 4.7)."""
    wanted, given = pattern.split("/"), topic.split("/")
    for place, level in enumerate(wanted):
        if level == "#":
            return True
        if place >= len(given) or level not in {"+", given[place]}:
            return False
    return len(wanted) == len(given)


def without_share(pattern: str) -> str:
    """Return the topic filter inside `$share/GROUP/FILTER`."""
    return pattern.split("/", 2)[2] if pattern.startswith("$share/") else pattern
