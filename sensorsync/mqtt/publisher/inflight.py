"""Outbox: the unacknowledged PUBLISHes of one publishing client. Pure: it owns no socket and no clock.

A message leaves it with its PUBACK, whatever that says. What was unacknowledged when a connection was lost is sent again with DUP on
the next one, before anything new, and within that connection's window: the broker may hold no session for us, so nobody else will.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mqtt5 import PubAckPacket, PublishPacket, QoS

from sensorsync.mqtt.client.broken_packets import ReceivedPacket
from sensorsync.runtime.histogram import LatencyHistogram

NO_SUBSCRIBER = 0x10
_FIRST_FAILURE_CODE = 0x80
_QOS_1 = QoS.AT_LEAST_ONCE


@dataclass(slots=True)
class PublishStats:
    """What became of the messages of one or many clients, counted."""

    sent: int = 0
    """Messages that were sent at least once."""
    acked: int = 0
    """Acknowledged with success and a subscriber."""
    no_subscriber: int = 0
    """Acknowledged with 0x10: the broker had nobody to give it to, and dropped it."""
    failed: int = 0
    """Acknowledged with a failure (0x80 and above)."""
    retransmitted: int = 0
    reconnects: int = 0
    reason_codes: dict[int, int] = field(default_factory=dict)
    """PUBACKs by reason code, success left out."""
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    """Microseconds to a message's PUBACK: from its first sending, in an open loop from when it was due."""
    latency_sum: float = 0.0
    """The same, in seconds, summed over all messages."""
    last_sent: float = 0.0
    """When the last new message was sent: Unix time in seconds."""

    @property
    def answered(self) -> int:
        """Messages that the broker answered with anything."""
        return self.acked + self.no_subscriber + self.failed


class InFlightPublishes:
    """The window of one client, whose messages go to `topics` in turn. Times are seconds of the caller's clock."""

    def __init__(self, topics: Iterator[str], stats: PublishStats) -> None:
        self.window = 0
        """Messages that may be unacknowledged on the present connection; 0 while there is none."""
        self.awaiting_subscriber = False
        """While set, a message that has no subscriber is not counted, but comes back in `returned`."""
        self.undelivered: list[bytes] = []
        self._topics = topics
        self._stats = stats
        self._unacked: dict[int, tuple[float, bytes, str]] = {}
        self._to_resend: deque[tuple[int, float, bytes, str]] = deque()
        self._free_packet_ids: deque[int] = deque()
        self._highest_packet_id = 0

    @property
    def empty(self) -> bool:
        """Nothing is unacknowledged."""
        return not self._unacked and not self._to_resend

    @property
    def free_slots(self) -> int:
        """How many new messages may be sent now; none while there are lost ones to send again."""
        return 0 if self._to_resend else self.window - len(self._unacked)

    @property
    def has_resends(self) -> bool:
        """Whether messages of a lost connection wait to be sent again."""
        return bool(self._to_resend)

    def publish(self, payloads: Sequence[bytes], latency_starts: Iterable[float]) -> list[PublishPacket]:
        """The PUBLISH packets of new messages. There must be `room` for them. `since`: from when the latency of each counts."""
        packets = []
        for payload, at, topic in zip(payloads, latency_starts, self._topics, strict=False):
            packet_id = self._free_packet_ids.popleft() if self._free_packet_ids else self._new_packet_id()
            self._unacked[packet_id] = (at, payload, topic)
            packets.append(PublishPacket(topic, payload, qos=_QOS_1, packet_id=packet_id))
        self._stats.sent += len(payloads)
        return packets

    def connection_lost(self) -> None:
        """What is unacknowledged has to be sent again, in its first order ([MQTT-4.6.0-1])."""
        self.window = 0
        again = [(packet_id, *message) for packet_id, message in self._unacked.items()]
        self._to_resend.extendleft(reversed(again))
        self._unacked.clear()

    def resend(self, limit: int) -> list[PublishPacket]:
        """The next lost messages with DUP ([MQTT-3.3.1-1]), at most `limit` and as the window allows; empty when none may go."""
        packets = []
        for _ in range(min(limit, len(self._to_resend), self.window - len(self._unacked))):
            packet_id, at, payload, topic = self._to_resend.popleft()
            self._unacked[packet_id] = (at, payload, topic)
            packets.append(PublishPacket(topic, payload, qos=_QOS_1, packet_id=packet_id, duplicate=True))
        self._stats.retransmitted += len(packets)
        return packets

    def receive_acks(self, packets: Sequence[ReceivedPacket], now: float) -> None:
        """Count the PUBACKs among `packets`. One of an unknown id is ignored."""
        flying, free = self._unacked, self._free_packet_ids
        acked = same = 0
        since = 0.0
        for packet in packets:
            if type(packet) is not PubAckPacket:
                continue
            packet_id = packet.packet_id
            found = flying.pop(packet_id, None)
            if found is None:
                continue
            free.append(packet_id)
            code = int(packet.reason_code)
            if code:
                self._record_reason_code(code, found[1])
            else:
                acked += 1
            # Messages of one burst were sent at one time, so their latencies are recorded at once: recording is what costs.
            if found[0] != since:
                self._record_latency(now - since, same)
                since, same = found[0], 0
            same += 1
        self._record_latency(now - since, same)
        self._stats.acked += acked

    def _new_packet_id(self) -> int:
        self._highest_packet_id += 1
        return self._highest_packet_id

    def _record_reason_code(self, code: int, payload: bytes) -> None:
        stats = self._stats
        if code == NO_SUBSCRIBER and self.awaiting_subscriber:
            stats.sent -= 1
            self.undelivered.append(payload)
            return
        stats.reason_codes[code] = stats.reason_codes.get(code, 0) + 1
        if code == NO_SUBSCRIBER:
            stats.no_subscriber += 1
        elif code >= _FIRST_FAILURE_CODE:
            stats.failed += 1
        else:
            stats.acked += 1

    def _record_latency(self, seconds: float, count: int) -> None:
        if count:
            self._stats.latency_sum += seconds * count
            self._stats.latency.record(max(1, round(seconds * 1e6)), count)
