"""One client of the check. It records messages with the time of their arrival, and acknowledges them unless configured otherwise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

from mqtt5 import (
    ConnAckPacket,
    Packet,
    PubAckPacket,
    PublishPacket,
    QoS,
    RetainHandling,
    SubAckPacket,
    SubscribePacket,
    TopicFilter,
)

from sensorsync.errors import SensorsyncError
from sensorsync.mqtt.check.report import StepFailed
from sensorsync.mqtt.client.base import BrokerConnection
from sensorsync.mqtt.client.broken_packets import ReceivedPacket
from sensorsync.mqtt.client.errors import BrokerUnavailable
from sensorsync.mqtt.client.open import open_connection
from sensorsync.mqtt.client.options import ConnectOptions

_MAX_PACKET_ID = 65535


class Arrival(NamedTuple):
    """A message that was delivered to us."""

    received_at: float
    """Time of arrival by `time.monotonic()`, in seconds."""
    payload: bytes


class CheckClient:
    """A client for `async with CheckClient(options) as client`: connected within the block. At its end the session is ended, too."""

    def __init__(self, options: ConnectOptions, *, acknowledge: bool = True) -> None:
        self.options = options
        self.arrivals: list[Arrival] = []
        self.acks: dict[int, tuple[float, int]] = {}
        """Packet id -> (time of its acknowledgement by `time.monotonic()`, reason code)."""
        self._acknowledge = acknowledge
        self._suback: SubAckPacket | None = None
        self._connection: BrokerConnection | None = None
        self._error: SensorsyncError | None = None
        self._state_changed = asyncio.Event()
        self._packet_id = 0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close(end_session=True)

    @property
    def connack(self) -> ConnAckPacket:
        """The broker's answer to CONNECT."""
        if self._connection is None or self._connection.connack is None:
            raise BrokerUnavailable
        return self._connection.connack

    @property
    def rtt(self) -> float:
        """Seconds from CONNECT to CONNACK."""
        return self._connection.rtt if self._connection else 0.0

    async def open(self) -> None:
        """Connect. Raises StepFailed."""
        self._error = None
        try:
            await open_connection(self.options, self)
        except SensorsyncError as error:
            raise StepFailed.from_error(error) from error

    async def close(self, *, end_session: bool) -> bool:
        """Disconnect if connected. Return True when the broker has read it all."""
        return self._connection is not None and await self._connection.close(end_session=end_session)

    async def answers_ping(self) -> bool:
        """Return True when the broker answers on this connection and has not ended it."""
        return self._connection is not None and await self._connection.ping(self.options.connect_timeout)

    async def subscribe(self, *topic_filters: str) -> list[int]:
        """Subscribe with QoS 1, and return the reason code of each filter. Raises StepFailed."""
        filters = [
            TopicFilter(one, max_qos=QoS.AT_LEAST_ONCE, retain_handling=RetainHandling.SEND_NEVER)
            for one in topic_filters
        ]
        self._suback = None
        self._send(SubscribePacket(self._next_packet_id(), filters))
        if not await self.wait_until(lambda: self._suback is not None, self.options.connect_timeout):
            raise StepFailed("subscribe_unanswered", f"no SUBACK in {self.options.connect_timeout:g} s")
        codes: list[int] = [int(code) for code in self._suback.reason_codes] if self._suback else []
        if len(codes) != len(topic_filters):
            raise StepFailed(
                "subscribe_unanswered", f"SUBACK has {len(codes)} reason codes for {len(topic_filters)} filters"
            )
        return codes

    def publish(self, topic: str, payloads: Sequence[bytes]) -> list[int]:
        """Publish with QoS 1, and return the packet ids."""
        ids = [self._next_packet_id() for _ in payloads]
        packets = [
            PublishPacket(topic, payload, qos=QoS.AT_LEAST_ONCE, packet_id=packet_id)
            for packet_id, payload in zip(ids, payloads, strict=True)
        ]
        self._send(*packets)
        return ids

    async def wait_for_acks(self, packet_ids: Sequence[int], timeout: float) -> list[int]:
        """Return the reason codes of these PUBLISHes once all have arrived.

        Raises StepFailed when they do not arrive within `timeout` seconds.
        """
        if not await self.wait_until(lambda: all(one in self.acks for one in packet_ids), timeout):
            missing = sum(one not in self.acks for one in packet_ids)
            raise StepFailed(
                "publish_unanswered", f"{missing} of {len(packet_ids)} without a PUBACK after {timeout:g} s"
            )
        return [self.acks[one][1] for one in packet_ids]

    async def wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Return True when `condition` comes true within `timeout` seconds.

        Raises StepFailed when the connection is lost meanwhile.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if self._error is not None:
                raise StepFailed.from_error(self._error)
            self._state_changed.clear()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._state_changed.wait()
            except TimeoutError:
                return condition()
        return True

    # -- ConnectionHandler ---------------------------------------------------------------------------------------------

    def connection_ready(self, connection: BrokerConnection) -> None:
        """See ConnectionHandler."""
        self._connection = connection

    def packets_received(self, packets: Sequence[ReceivedPacket], *, more: bool) -> None:  # noqa: ARG002 - the protocol's
        """See ConnectionHandler."""
        now = time.monotonic()
        for packet in packets:
            match packet:
                case PublishPacket():
                    self.arrivals.append(Arrival(now, bytes(packet.payload)))
                    if packet.packet_id is not None and self._acknowledge:
                        self._send(PubAckPacket(packet.packet_id))
                case PubAckPacket():
                    self.acks[packet.packet_id] = (now, int(packet.reason_code))
                case SubAckPacket():
                    self._suback = packet
                case _:
                    pass
        self._state_changed.set()

    def connection_lost(self, error: SensorsyncError | None) -> None:
        """See ConnectionHandler."""
        self._error = error or BrokerUnavailable("the connection is closed")
        self._state_changed.set()

    def writing_paused(self, paused: bool) -> None:
        """See ConnectionHandler. A check sends too little for a pause to matter."""

    # -- inside --------------------------------------------------------------------------------------------------------

    def _send(self, *packets: Packet) -> None:
        if self._connection is not None:
            self._connection.send(packets)

    def _next_packet_id(self) -> int:
        self._packet_id = self._packet_id % _MAX_PACKET_ID + 1
        return self._packet_id
