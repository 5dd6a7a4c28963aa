"""The unacknowledged PUBLISHes of one publishing client. This module owns no socket and no clock.

A message is removed with its PUBACK, whatever the reason code. Messages that were unacknowledged when a connection was lost are
sent again with DUP on the next one, before any new message and within that connection's window. The broker may hold no session
for this client, so no other part would send them.
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
    """Counters of the messages of one or more clients, by outcome."""

    sent: int = 0
    """Messages that were sent at least once."""
    acked: int = 0
    """Acknowledged with success and a subscriber."""
    no_subscriber: int = 0
    """Acknowledged with 0x10: the broker had no subscriber for the message, and dropped it."""
    failed: int = 0
    """Acknowledged with a failure (0x80 and above)."""
    retransmitted: int = 0
    reconnects: int = 0
    reason_codes: dict[int, int] = field(default_factory=dict)
    """Number of PUBACKs by reason code, without success."""
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    """Microseconds until a message's PUBACK, from its first sending. In an open loop they count from the time when it was due."""
    latency_sum: float = 0.0
    """Sum of the same latencies over all messages, in seconds."""
    last_sent: float = 0.0
    """Unix time in seconds of the last sending of a new message."""

    @property
    def answered(self) -> int:
        """Number of messages that the broker acknowledged with any reason code."""
        return self.acked + self.no_subscriber + self.failed


class InFlightPublishes:
    """The window of one client. Its messages go to `topics` in turn. Times are seconds of the caller's clock."""

    def __init__(self, topics: Iterator[str], stats: PublishStats) -> None:
        self.window = 0
        """Messages that may be unacknowledged on the present connection; 0 without a connection."""
        self.awaiting_subscriber = False
        """While True, a message without a subscriber is not counted, but returned in `undelivered`."""
        self.undelivered: list[bytes] = []
        self._topics = topics
        self._stats = stats
        self._unacked: dict[int, tuple[float, bytes, str]] = {}
        self._to_resend: deque[tuple[int, float, bytes, str]] = deque()
        self._free_packet_ids: deque[int] = deque()
        self._highest_packet_id = 0

    @property
    def empty(self) -> bool:
        """True when nothing is unacknowledged."""
        return not self._unacked and not self._to_resend

    @property
    def free_slots(self) -> int:
        """Number of new messages that may be sent now; 0 while lost messages have to be sent again."""
        return 0 if self._to_resend else self.window - len(self._unacked)

    @property
    def has_resends(self) -> bool:
        """True when messages of a lost connection have to be sent again."""
        return bool(self._to_resend)

    def publish(self, payloads: Sequence[bytes], latency_starts: Iterable[float]) -> list[PublishPacket]:
        """Return the PUBLISH packets of new messages. Their number must not exceed `free_slots`.

        `latency_starts` holds, for each message, the time from which its latency counts.
        """
        packets = []
        for payload, at, topic in zip(payloads, latency_starts, self._topics, strict=False):
            packet_id = self._free_packet_ids.popleft() if self._free_packet_ids else self._new_packet_id()
            self._unacked[packet_id] = (at, payload, topic)
            packets.append(PublishPacket(topic, payload, qos=_QOS_1, packet_id=packet_id))
        self._stats.sent += len(payloads)
        return packets

    def connection_lost(self) -> None:
        """Queue all unacknowledged messages for sending again, in their first order ([MQTT-4.6.0-1])."""
        self.window = 0
        again = [(packet_id, *message) for packet_id, message in self._unacked.items()]
        self._to_resend.extendleft(reversed(again))
        self._unacked.clear()

    def resend(self, limit: int) -> list[PublishPacket]:
        """Return the next lost messages with DUP ([MQTT-3.3.1-1]), at most `limit` and as the window allows.

        The list is empty when none may be sent.
        """
        packets = []
        for _ in range(min(limit, len(self._to_resend), self.window - len(self._unacked))):
            packet_id, at, payload, topic = self._to_resend.popleft()
            self._unacked[packet_id] = (at, payload, topic)
            packets.append(PublishPacket(topic, payload, qos=_QOS_1, packet_id=packet_id, duplicate=True))
        self._stats.retransmitted += len(packets)
        return packets

    def receive_acks(self, packets: Sequence[ReceivedPacket], now: float) -> None:
        """Count the PUBACKs among `packets`. A PUBACK with an unknown id is ignored."""
        unacked, free = self._unacked, self._free_packet_ids
        acked = same = 0
        since = 0.0
        for packet in packets:
            if type(packet) is not PubAckPacket:
                continue
            packet_id = packet.packet_id
            found = unacked.pop(packet_id, None)
            if found is None:
                continue
            free.append(packet_id)
            code = int(packet.reason_code)
            if code:
                self._record_reason_code(code, found[1])
            else:
                acked += 1
            # Messages of one burst were sent at one time, so their latencies are recorded together: each record takes time.
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
