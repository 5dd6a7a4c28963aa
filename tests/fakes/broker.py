"""A scriptable MQTT 5 broker on 127.0.0.1: it can play each behaviour of real brokers, and each of their faults.

Its knobs are in `Script`; actions are methods.
Everything that clients send is in `seen`, in order. QoS 2 is refused; retained messages are not kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self, TypeVar

import mqtt5

from tests.fakes.connection import ServerConnection
from tests.fakes.listener import Listener
from tests.fakes.routing import Routing
from tests.fakes.session import Message, Seen, Session

FAILURE = 0x80
"""Reason codes from here on are failures. The codec's codes are no ints at run time: convert before comparing."""
P = TypeVar("P", bound=mqtt5.Packet)


@dataclass(eq=False)
class FakeBroker(Routing):
    """`await broker.start()`, then `broker.port`; or `async with FakeBroker() as broker`; or `InThread(FakeBroker())`."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    closed: list[tuple[str, int]] = field(default_factory=list)
    """(client id, connection number) of each TCP connection that ended, in order."""

    def __post_init__(self) -> None:
        self._listener = Listener(self._accept)
        self._connections: dict[int, ServerConnection] = {}
        self._count = 0
        self._waiters: list[asyncio.Future[None]] = []

    # Life

    async def start(self) -> None:
        """Listen; a second start after `stop` takes the same port and keeps the sessions (call `lose_sessions` to lose them)."""
        self.port = await self._listener.start(self.port, self.ssl)

    async def stop(self) -> None:
        """Stop listening and drop all connections."""
        await self._listener.stop()
        await self.wait_for(lambda _: not self._connections)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def wait_for(self, predicate: Callable[[FakeBroker], object], timeout: float = 60.0) -> None:
        """Return as soon as `predicate(self)` is true; it is tried after everything that happens. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not predicate(self):
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter

    # What was seen

    def packets(self, kind: type[P], client_id: str | None = None, connection: int | None = None) -> list[P]:
        """The packets of one type, of one client or connection or of all, in order of arrival."""
        return [
            entry.packet
            for entry in self.seen
            if isinstance(entry.packet, kind)
            and client_id in (None, entry.client_id)
            and connection in (None, entry.connection)
        ]

    def puback_ids(self, client_id: str | None = None, connection: int | None = None) -> list[int]:
        """Packet ids that a subscriber acknowledged, in order."""
        return [packet.packet_id for packet in self.packets(mqtt5.PubAckPacket, client_id, connection)]

    def connected(self, client_id: str | None = None) -> list[str]:
        """Client ids that are connected now, in the order in which they connected."""
        return [c.client_id for c in self._connections.values() if c.session and client_id in (None, c.client_id)]

    def connection_number(self, client_id: str) -> int:
        """The number of the client's present connection, as in `Seen.connection`."""
        return next(self._live(client_id)).number

    def publisher_debt(self, client_id: str) -> int:
        """PUBACKs that the client waits for."""
        return sum(len(connection.owed) for connection in self._live(client_id))

    # Deliveries

    async def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 1,
        *,
        retain: bool = False,
        user_properties: tuple[tuple[str, str], ...] = (),
    ) -> int:
        """Route one message to all subscribers, as if published by somebody; return how many sessions got it."""
        routed = self.route(Message(topic, payload, qos, retain, user_properties))
        await asyncio.sleep(0)
        return routed

    def next_packet_id(self, client_id: str, packet_id: int) -> None:
        """The client's next delivery gets this packet id (if it is free)."""
        self.sessions[client_id].next_id = packet_id

    def resend(self, client_id: str, packet_id: int) -> None:
        """Send an unacknowledged message again on the live connection, with DUP (EMQX before 5.8 does so every 30 s)."""
        message = self.sessions[client_id].inflight[packet_id]
        next(self._live(client_id)).write(message.packet(packet_id, dup=True))

    def inject(self, client_id: str, data: bytes) -> None:
        """Send any bytes: a malformed packet, half of one, a PUBLISH under any packet id."""
        next(self._live(client_id)).write(data)

    def release_publisher_acks(self) -> None:
        """Send the PUBACKs that were withheld, and withhold no more."""
        self.withhold_publisher_acks = False
        for connection in self._live():
            connection.pay()

    # Faults

    def drop_connection(self, client_id: str | None = None) -> None:
        """Cut TCP (of all clients, without an id), without a DISCONNECT."""
        for connection in list(self._live(client_id)):
            connection.transport.abort()

    def disconnect(self, client_id: str, code: mqtt5.DisconnectReasonCode) -> None:
        """Send DISCONNECT with a reason code and close: 0x8E taken over, 0x8B shutting down, ..."""
        next(self._live(client_id)).disconnect(code)

    def swallow(self, client_id: str | None = None) -> None:
        """Become a black hole for these connections: nothing is read into account, nothing is answered, TCP stays."""
        for connection in self._live(client_id):
            connection.swallow()

    # Called by the connections

    def connection_opened(self, connection: ServerConnection) -> None:
        self._connections[connection.number] = connection
        self._touch()

    def connection_closed(self, connection: ServerConnection) -> None:
        del self._connections[connection.number]
        self.closed.append((connection.client_id, connection.number))
        session = connection.session
        if session and session.connection is connection:
            session.offline()
            if session.expiry == 0:
                self.end_session(session.client_id)
        self._touch()

    def packet_received(self, connection: ServerConnection, packet: mqtt5.Packet) -> None:
        if isinstance(packet, mqtt5.ConnectPacket):
            connection.connect = packet
        self.seen.append(Seen(time.monotonic(), connection.client_id, connection.number, packet))
        match packet:
            case mqtt5.ConnectPacket():
                self._on_connect(connection, packet)
            case mqtt5.SubscribePacket():
                self._on_subscribe(connection, packet)
            case mqtt5.UnsubscribePacket():
                self._on_unsubscribe(connection, packet)
            case mqtt5.PublishPacket():
                self._on_publish(connection, packet)
            case mqtt5.PubAckPacket():
                if connection.session:
                    connection.session.inflight.pop(packet.packet_id, None)
                    connection.pump()
            case mqtt5.PingReqPacket():
                connection.write(mqtt5.PingRespPacket().write())
            case mqtt5.DisconnectPacket():
                if connection.session and packet.session_expiry_interval is not None:
                    connection.session.expiry = packet.session_expiry_interval
                connection.transport.close()
            case _:
                connection.disconnect(mqtt5.DisconnectReasonCode.PROTOCOL_ERROR)
        self._touch()

    def _accept(self) -> ServerConnection:
        self._count += 1
        return ServerConnection(self, self._count)

    def _live(self, client_id: str | None = None) -> Iterator[ServerConnection]:
        return (c for c in self._connections.values() if client_id in (None, c.client_id))

    def _touch(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _on_connect(self, connection: ServerConnection, packet: mqtt5.ConnectPacket) -> None:
        if not self.answer_connect:
            return
        code = self._verdict(packet)
        if code is not mqtt5.ConnAckReasonCode.SUCCESS:
            connection.write(mqtt5.ConnAckPacket(reason_code=code).write())
            connection.transport.close()
            return
        session = self.sessions.get(packet.client_id)
        if session and session.connection:
            old = session.connection
            session.offline()
            old.session = None
            old.disconnect(mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER)
        if session and packet.clean_start:
            self.end_session(packet.client_id)
            session = None
        present = session is not None
        session = session or self.sessions.setdefault(packet.client_id, Session(packet.client_id))
        session.expiry, session.connection, connection.session = packet.session_expiry_interval, connection, session
        connection.write(
            mqtt5.ConnAckPacket(
                session_present=present if self.session_present is None else self.session_present,
                receive_max=self.receive_max,
                server_keep_alive=self.server_keep_alive,
                session_expiry_interval=self.session_expiry,
                **{"max_qos": mqtt5.QoS.AT_LEAST_ONCE, "retain_available": False, **self.connack},
            ).write()
        )
        connection.pump()

    def _verdict(self, packet: mqtt5.ConnectPacket) -> mqtt5.ConnAckReasonCode:
        if self.connack_codes:
            return self.connack_codes.popleft()
        if self.credentials is not None:
            if packet.username not in self.credentials:
                return mqtt5.ConnAckReasonCode.NOT_AUTHORIZED
            if self.credentials[packet.username] != packet.password:
                return mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD
        return mqtt5.ConnAckReasonCode.SUCCESS

    def _on_subscribe(self, connection: ServerConnection, packet: mqtt5.SubscribePacket) -> None:
        codes = []
        for wanted in packet.topic_filters:
            granted = min(int(wanted.max_qos), 1)
            code = self.suback_codes.get(wanted.pattern, mqtt5.SubAckReasonCode(granted))
            if int(code) < FAILURE and connection.session:
                connection.session.subscriptions[wanted.pattern] = granted
            codes.append(code)
        if not self.withhold_suback:
            connection.write(mqtt5.SubAckPacket(packet.packet_id, codes).write())

    def _on_unsubscribe(self, connection: ServerConnection, packet: mqtt5.UnsubscribePacket) -> None:
        had = connection.session.subscriptions if connection.session else {}
        gone, missing = mqtt5.UnsubAckReasonCode.SUCCESS, mqtt5.UnsubAckReasonCode.NO_SUBSCRIPTION_EXISTED
        codes = [missing if had.pop(pattern, None) is None else gone for pattern in packet.patterns]
        connection.write(mqtt5.UnsubAckPacket(packet.packet_id, codes).write())

    def _on_publish(self, connection: ServerConnection, packet: mqtt5.PublishPacket) -> None:
        if packet.qos == mqtt5.QoS.EXACTLY_ONCE:
            connection.disconnect(mqtt5.DisconnectReasonCode.QOS_NOT_SUPPORTED)
            return
        if packet.packet_id is not None and len(connection.owed) >= self.receive_max:
            connection.disconnect(mqtt5.DisconnectReasonCode.RECEIVE_MAX_EXCEEDED)
            return
        code = self.puback_code(packet) if self.puback_code else None
        if code is None or int(code) < FAILURE:
            properties = tuple(packet.user_properties)
            routed = self.route(Message(packet.topic, bytes(packet.payload), int(packet.qos), False, properties))
            own = mqtt5.PubAckReasonCode.SUCCESS if routed else mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS
            code = own if code is None else code
        if packet.packet_id is not None:
            connection.owed.append(mqtt5.PubAckPacket(packet.packet_id, reason_code=code).write())
