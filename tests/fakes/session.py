"""What a broker remembers of one client, and what a test wants to know of the traffic."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import mqtt5

if TYPE_CHECKING:
    from tests.fakes.connection import ServerConnection

MAX_PACKET_ID = 65535


class Seen(NamedTuple):
    """One packet that a client sent, in the order of arrival over all connections."""

    at: float
    """`time.monotonic()`."""
    client_id: str
    connection: int
    """Number of the TCP connection, from 1, over the life of the broker."""
    packet: mqtt5.Packet


@dataclass(frozen=True, slots=True)
class Message:
    """One application message on its way to a subscriber."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    user_properties: tuple[tuple[str, str], ...] = ()
    share: str | None = None
    """The `$share/...` subscription that it is delivered for; when that member's session ends it goes to another."""

    def packet(self, packet_id: int | None, *, dup: bool = False) -> bytes:
        """The PUBLISH on the wire."""
        return mqtt5.PublishPacket(
            self.topic,
            self.payload,
            qos=mqtt5.QoS(self.qos),
            retain=self.retain,
            packet_id=packet_id,
            duplicate=dup,
            user_properties=list(self.user_properties),
        ).write()


@dataclass(slots=True)
class Session:
    """Subscriptions, the queue and what is sent but not acknowledged. It may outlive its connection ([MQTT-4.1.0])."""

    client_id: str
    expiry: int = 0
    """Seconds that it outlives the connection; 0 ends it with the connection. Nothing here expires by the clock."""
    subscriptions: dict[str, int] = field(default_factory=dict)
    """Filter as subscribed, `$share/` included -> maximum QoS."""
    queue: deque[Message] = field(default_factory=deque)
    """Not sent yet: behind the window or offline."""
    inflight: dict[int, Message] = field(default_factory=dict)
    """Sent on the present connection, not acknowledged."""
    resend: deque[tuple[int, Message]] = field(default_factory=deque)
    """Sent on an earlier connection, not acknowledged: first in line on the next one, under the same packet ids."""
    dropped: list[Message] = field(default_factory=list)
    """What the queue's bound threw away."""
    next_id: int = 1
    connection: ServerConnection | None = None

    def take_id(self) -> int:
        """The next free packet id."""
        taken = self.inflight.keys() | {packet_id for packet_id, _ in self.resend}
        while self.next_id in taken:
            self.next_id = self.next_id % MAX_PACKET_ID + 1
        packet_id = self.next_id
        self.next_id = packet_id % MAX_PACKET_ID + 1
        return packet_id

    def bound(self, limit: int | None, drop: str) -> None:
        """Keep the queue within `limit` messages by dropping its `oldest` or `newest`."""
        while limit is not None and len(self.queue) > limit:
            self.dropped.append(self.queue.popleft() if drop == "oldest" else self.queue.pop())

    def offline(self) -> None:
        """The connection is gone: all that is unacknowledged waits to be sent again."""
        self.connection = None
        self.resend.extendleft(reversed(self.inflight.items()))
        self.inflight.clear()

    @property
    def held(self) -> int:
        """How many messages nobody acknowledged."""
        return len(self.inflight) + len(self.resend) + len(self.queue)

    def undelivered(self) -> list[Message]:
        """Everything that nobody acknowledged, in order."""
        return [*self.inflight.values(), *(message for _, message in self.resend), *self.queue]


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic filter (without `$share/group/`) matches a topic name (MQTT 5, 4.7)."""
    if topic.startswith("$") and pattern[:1] in "+#":
        return False
    wanted, levels = pattern.split("/"), topic.split("/")
    for i, level in enumerate(wanted):
        if level == "#":
            return True
        if i >= len(levels) or level not in ("+", levels[i]):
            return False
    return len(wanted) == len(levels)


def split_share(pattern: str) -> tuple[str | None, str]:
    """`$share/group/filter` -> (group, filter); a plain filter -> (None, filter)."""
    if not pattern.startswith("$share/"):
        return None, pattern
    _, group, rest = pattern.split("/", 2)
    return group, rest
