"""The broker's side of one TCP connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from tests.acceptance.nemesis import mqtt_bytes as wire
from tests.acceptance.nemesis.judge import ConnectionJudge
from tests.acceptance.nemesis.messages import Fate, Message
from tests.acceptance.nemesis.mqtt_bytes import Kind, Malformed, Packet
from tests.acceptance.nemesis.session import Session

if TYPE_CHECKING:
    from tests.acceptance.nemesis.broker import Broker

_SERVER_SHUTTING_DOWN = 0x8B
_SESSION_TAKEN_OVER = 0x8E


class BrokerConnection(asyncio.Protocol):
    """Reads packets, has PUBACKs judged before anything else happens, and sends as far as the window goes."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        broker.counts["connections"] += 1
        self.number = broker.counts["connections"]
        self.session: Session | None = None
        self._level = wire.MQTT_5
        self._window = 0
        self._greeted = False
        self._torn = False
        self._in = bytearray()
        self._out = bytearray()
        self._judge: ConnectionJudge | None = None
        self._transport: asyncio.Transport

    # -- what asyncio calls ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.broker.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.broker.connections.discard(self)
        self._let_go()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._in += data
        try:
            packets = wire.take_packets(self._in)
            acks = [wire.read_puback(p.body, self._level) for p in packets if p.kind == Kind.PUBACK]
            if acks and self._judge is not None:
                self._judge.acknowledged(acks)  # before any other event is processed
            self._handle(packets)
        except Malformed as error:
            self.broker.judge.report("malformed", f"{error}, connection {self.number}")
            self.reset()

    # -- what the broker calls -------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Reset the connection; the session stays with its messages in flight."""
        self._transport.abort()
        self._let_go()

    def swallow(self) -> None:
        """Become a black hole: TCP stays up, nothing is read and nothing is sent any more."""
        self._torn = True
        self._transport.pause_reading()

    def taken_over(self) -> None:
        """Another connection has this client id now."""
        if self._level == wire.MQTT_5 and not self._torn:
            self._transport.write(wire.disconnect(_SESSION_TAKEN_OVER))
        self._let_go()
        self._transport.close()

    def pump(self) -> None:
        """Send what is owed from an earlier connection, then what is new, as far as the window goes."""
        session = self.session
        if session is None or not self._greeted or self._torn or self._transport.is_closing() or self.broker.paused:
            return
        data = bytearray()
        while session.resend and len(session.in_flight) - len(session.resend) < self._window:
            packet_id = session.resend.popleft()
            data += self._delivery(packet_id, session.in_flight[packet_id].message, dup=True)
        while not session.resend and len(session.in_flight) < self._window:
            sent = session.next_message()
            if sent is None:
                break
            packet_id = session.take_id()
            session.in_flight[packet_id] = sent
            data += self._delivery(packet_id, sent.message, dup=False)
        if data:
            self._send(bytes(data))

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _delivery(self, packet_id: int, message: Message, *, dup: bool) -> bytes:
        if self._judge is not None:
            self._judge.sent(packet_id, message)
        self.broker.counts["deliveries"] += 1
        return wire.publish(self._level, message.topic, message.payload, packet_id, dup=dup)

    def _let_go(self) -> None:
        session, self.session = self.session, None
        if session is None or session.connection is not self:
            return
        session.connection = None
        session.resend.clear()
        if self._judge is not None:
            session.delivered |= self._judge.delivered
        if session.expiry == 0:
            self.broker.end_session(session)

    def _handle(self, packets: list[Packet]) -> None:
        broker = self.broker
        acks = sum(packet.kind == Kind.PUBACK for packet in packets)
        remembered = acks
        if acks and broker.rng.random() < broker.faults.forget_acks:
            remembered = broker.rng.randrange(acks)
        for packet in packets:
            if packet.kind == Kind.PUBACK:
                if not remembered:
                    broker.counts["acks_forgotten"] += 1
                    self.reset()
                    return
                remembered -= 1
                self._settle(wire.read_puback(packet.body, self._level)[0])
            else:
                self._request(packet)
            if self._transport.is_closing():
                return
        if acks:
            self._maybe_resend()
            self.pump()

    def _settle(self, packet_id: int) -> None:
        if self.session is not None and packet_id not in self.session.resend:
            self.session.in_flight.pop(packet_id, None)

    def _maybe_resend(self) -> None:
        """Send an unacknowledged message once more on this live connection, as EMQX before 5.8 does."""
        broker, session = self.broker, self.session
        if session is None or broker.rng.random() >= broker.faults.resend:
            return
        if there := [number for number in session.in_flight if number not in session.resend]:
            packet_id = broker.rng.choice(there)
            broker.counts["resends"] += 1
            self._send(self._delivery(packet_id, session.in_flight[packet_id].message, dup=True))

    def _request(self, packet: Packet) -> None:
        if packet.kind == Kind.CONNECT:
            self._connect(packet.body)
        elif packet.kind == Kind.SUBSCRIBE:
            self._subscribe(packet.body)
        elif packet.kind == Kind.UNSUBSCRIBE:
            packet_id, patterns = wire.read_unsubscribe(packet.body, self._level)
            for pattern in patterns:
                if self.session is not None:
                    self.session.subscriptions.pop(pattern, None)
            self._send(wire.unsuback(self._level, packet_id, len(patterns)))
        elif packet.kind == Kind.PUBLISH:
            self._published(packet)
        elif packet.kind == Kind.PINGREQ:
            self._send(wire.pingresp())
        elif packet.kind == Kind.DISCONNECT:
            expiry = wire.read_disconnect(packet.body, self._level)
            if self.session is not None and expiry is not None:
                self.session.expiry = expiry
            self._let_go()
            self._transport.close()
        else:
            raise Malformed(f"a client sent packet type {packet.kind}")

    def _published(self, packet: Packet) -> None:
        """A client publishes itself: a probe, which is routed as any message and judged by order alone."""
        sent = wire.read_publish(packet, self._level)
        self.broker.counts["probes"] += 1
        if sent.qos:
            self._send(wire.puback(sent.packet_id))
        self.broker.publish(Message(-1, Fate.ANYWHERE, sent.topic, sent.payload))

    def _connect(self, body: bytes) -> None:
        broker = self.broker
        connect = wire.read_connect(body)
        self._level = connect.level
        if broker.rng.random() < broker.faults.refuse:
            broker.counts["refused"] += 1
            self.reset()
            return
        self._window = min(connect.receive_maximum, broker.window)
        self.session, present = broker.open_session(connect, self)
        label = f"{connect.client_id} connection {self.number}"
        self._judge = ConnectionJudge(broker.judge, label, self.session.delivered)
        late = broker.rng.random() if broker.rng.random() < broker.faults.late_connack else 0.0
        answer = wire.connack(self._level, session_present=present, receive_maximum=broker.window)
        asyncio.get_running_loop().call_later(late, self._greet, answer)

    def _greet(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._greeted = True
            self._send(answer)
            self.pump()

    def _subscribe(self, body: bytes) -> None:
        broker, session = self.broker, self.session
        packet_id, filters = wire.read_subscribe(body, self._level)
        if session is None:
            raise Malformed("SUBSCRIBE before CONNECT")
        for pattern, _ in filters:
            broker.subscribe(session, pattern)
        late = 2 * broker.rng.random() if broker.rng.random() < broker.faults.late_suback else 0.0
        answer = wire.suback(self._level, packet_id, [min(qos, 1) for _, qos in filters])
        asyncio.get_running_loop().call_later(late, self._send, answer)
        self.pump()

    def _send(self, data: bytes) -> None:
        """Write, or tear the write apart. What is still to be written goes first."""
        broker = self.broker
        rng, faults = broker.rng, broker.faults
        if self._torn or self._transport.is_closing():
            return
        if rng.random() < faults.tear:
            broker.counts["torn"] += 1
            self._torn = True
            self._transport.write(bytes(self._out) + data[: rng.randrange(len(data) + 1)])
            # In a moment: an abort right away may drop what was written.
            asyncio.get_running_loop().call_later(0.005 * rng.random(), self.reset)
            self._out = bytearray()
            return
        if self._out or rng.random() < faults.dribble:
            dribbling = bool(self._out)
            self._out += data
            if not dribbling:
                self._dribble()
        else:
            self._transport.write(data)
        if self._level == wire.MQTT_5 and self._greeted and rng.random() < faults.server_disconnect:
            broker.counts["server_disconnects"] += 1
            self._transport.write(bytes(self._out) + wire.disconnect(_SERVER_SHUTTING_DOWN))
            self._let_go()
            self._transport.close()

    def _dribble(self) -> None:
        if self._torn or self._transport.is_closing() or not self._out:
            return
        size = self.broker.rng.randrange(1, len(self._out) + 1)
        self._transport.write(bytes(self._out[:size]))
        del self._out[:size]
        if self._out:
            asyncio.get_running_loop().call_later(0.02 * self.broker.rng.random(), self._dribble)
