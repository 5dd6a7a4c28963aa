"""The connection to a broker as its owner uses it, the same for each engine: packets in, packets out, errors as text.

The packets are those of the `mqtt5` codec, also where another library talks to the broker. Links, publishers and probes all use
them. This module contains the parts that both engines have in common: the handshake, the order in which events are reported, and
the end of a connection.
"""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from mqtt5 import ConnAckPacket, DisconnectPacket, Packet, PingReqPacket, PingRespPacket, PublishPacket

from sensorsync.errors import SensorsyncError
from sensorsync.mqtt.client.broken_packets import BrokenPublish, ReceivedPacket
from sensorsync.mqtt.client.causes import CAUSES
from sensorsync.mqtt.client.diagnosis import cause_of_tls_error
from sensorsync.mqtt.client.errors import (
    BrokerRefused,
    BrokerUnavailable,
    EmptyTopic,
    broker_error,
    connack_error,
    disconnect_error,
)
from sensorsync.mqtt.client.options import ConnectOptions

PING = (PingReqPacket(),)
_INTERNAL_PACKETS = frozenset({PingRespPacket, DisconnectPacket})
_MESSAGES = (PublishPacket, BrokenPublish)


class ConnectionHandler(Protocol):
    """The owner of a connection. Its methods are called on the event loop's thread and must not raise."""

    def connection_ready(self, connection: BrokerConnection) -> None:
        """Handle a successful CONNACK. Packets of a resumed session may follow at once, before `connect` returns."""
        ...

    def packets_received(self, packets: Sequence[ReceivedPacket], *, more: bool) -> None:
        """Handle the packets of one read of the socket, in order. `more`: the socket probably holds more already."""
        ...

    def connection_lost(self, error: SensorsyncError | None) -> None:
        """Handle the end of the connection.

        `error` is None after our own close(). Called exactly once after a successful connect().
        """
        ...

    def writing_paused(self, paused: bool) -> None:
        """Handle a send buffer that is full (True) or has room again (False)."""
        ...


class BrokerConnection(ABC):
    """A connection, from connecting to its end. Create it with `open_connection`. It is never used a second time.

    Therefore nothing that belongs to one connection, above all its packet ids, can reach the next one.
    """

    def __init__(self, options: ConnectOptions, handler: ConnectionHandler) -> None:
        self.options = options
        self.connack: ConnAckPacket | None = None
        self.rtt = 0.0
        """Seconds between CONNECT and CONNACK."""
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self.handshake: asyncio.Future[ConnAckPacket] = self._loop.create_future()
        """The CONNACK once it reports success, or the error instead."""
        self._error: SensorsyncError | None = None
        self._closing = False
        self._reading_paused = False
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._pong_received: asyncio.Future[None] | None = None
        self._pings_sent = self._pings_answered = 0
        """Numbers of pings that were sent and answered, those of the keep-alive included. Each answer counts for the first ping
        that has none.
        """
        self._pings_awaited = 0
        """Number of pings that must be answered before `_pong_received` is set."""
        self._last_sent = self._loop.time()

    # -- called by the owner --------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def alive(self) -> bool:
        """True when the connection is neither lost nor closing."""

    @abstractmethod
    async def connect(self) -> None:
        """Connect by TCP and TLS, and send CONNECT. Raises OSError (ssl.SSLError is one), BrokerError."""

    @abstractmethod
    def send(self, packets: Sequence[Packet]) -> None:
        """Send the packets in order. Does nothing once the connection is gone, because its loss is reported elsewhere."""

    @abstractmethod
    def pause_reading(self) -> None:
        """Leave arriving data in the socket. The peer's TCP window then fills, and the peer must wait."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Read from the socket again."""

    @abstractmethod
    async def close(self, *, end_session: bool = False, timeout: float = 2.0) -> bool:
        """Send what is buffered and a DISCONNECT, then close the socket. Return True when the broker has read it all.

        `end_session` also ends the session. Waits for the broker up to `timeout` seconds, a few times.
        """

    @abstractmethod
    def abort(self, error: SensorsyncError | None) -> None:
        """Drop the connection without a DISCONNECT. The owner receives `error`."""

    async def ping(self, timeout: float) -> bool:
        """Return True when the broker answers within `timeout` seconds. It has then read all that was sent before."""
        self._pong_received = self._loop.create_future()
        self._send_ping()
        self._pings_awaited = self._pings_sent
        done, _ = await asyncio.wait(
            [self._pong_received, self._closed], timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )
        return self._pong_received in done

    # -- called by the engines ------------------------------------------------------------------------------------------------

    def _send_ping(self) -> None:
        self.send(PING)
        self._pings_sent += 1

    @abstractmethod
    def _start_keep_alive(self, connack: ConnAckPacket) -> None:
        """Start the keep-alive after a successful CONNACK."""

    def _dispatch(self, packets: list[ReceivedPacket], *, more: bool) -> None:
        if self.connack is None:
            self._handle_connack(packets.pop(0))
        goodbye: DisconnectPacket | None = None
        if not _INTERNAL_PACKETS.isdisjoint(map(type, packets)):
            goodbye = next((p for p in packets if isinstance(p, DisconnectPacket)), None)
            self._pings_answered = min(
                self._pings_sent, self._pings_answered + sum(type(p) is PingRespPacket for p in packets)
            )
            if (
                self._pong_received is not None
                and not self._pong_received.done()
                and self._pings_answered >= self._pings_awaited
            ):
                self._pong_received.set_result(None)
            packets = [p for p in packets if type(p) not in _INTERNAL_PACKETS]
        if packets and self.connack is not None and not self._closing:
            nameless = _first_without_topic(packets)
            if taken := packets[:nameless]:
                self._handler.packets_received(taken, more=more)
            if nameless is not None:
                self._refuse_topic_alias()
                return
        if goodbye is not None:
            self.abort(disconnect_error(self.options.address, goodbye))

    def _handle_connack(self, packet: ReceivedPacket) -> None:
        if isinstance(packet, DisconnectPacket):
            self.abort(disconnect_error(self.options.address, packet))
        elif not isinstance(packet, ConnAckPacket):
            self.abort(BrokerRefused(f"{self.options.address} answered CONNECT with {type(packet).__name__}"))
        elif int(packet.reason_code) != 0:
            self.abort(connack_error(self.options.address, packet))
        elif not self.handshake.done():
            self.connack = packet
            self.rtt = self._loop.time() - self._last_sent
            self.handshake.set_result(packet)
            self._handler.connection_ready(self)
            self._start_keep_alive(packet)

    def _refuse_topic_alias(self) -> None:
        """Drop the connection with DISCONNECT 0x94 (section 3.3.2.3.4), because the topic of the message is unknown."""
        self._error = self._error or EmptyTopic(self.options.address)
        if self.options.protocol == "5":
            self._send_topic_alias_invalid()
        self.abort(self._error)

    @abstractmethod
    def _send_topic_alias_invalid(self) -> None:
        """Send DISCONNECT with the reason code 0x94."""

    def _abort_malformed(self, error: BaseException) -> None:
        self.abort(
            BrokerUnavailable(
                f"{self.options.address} sent what is not MQTT {self.options.protocol} ({error})",
                hint="is this an MQTT listener, and TLS set as the broker expects it (mqtt.tls)?",
            )
        )

    def _handle_closed(self, exc: Exception | None) -> None:
        """Report the closed socket to the owner. `exc` is the cause, used when no other error has been set."""
        if not self._closed.done():
            self._closed.set_result(None)
        error = self._error
        if error is None and not self._closing:
            reason = f": {exc}" if exc else ""
            error = BrokerUnavailable(f"connection to broker {self.options.address} lost{reason}")
        if self.handshake.done():
            if not self.handshake.cancelled() and self.handshake.exception() is None:
                self._handler.connection_lost(error)
        else:
            self.handshake.set_exception(self._error or self._connect_unanswered_error(exc))

    def _connect_unanswered_error(self, exc: Exception | None) -> SensorsyncError:
        """Return the error for a CONNECT without an answer. In TLS 1.3 the broker checks our certificate only at this point."""
        where = self.options.address
        if isinstance(exc, ssl.SSLError):
            cause = cause_of_tls_error(exc, with_client_certificate=self.options.has_client_certificate)
            return broker_error(cause, f"TLS with broker {where} failed: {cause.description} ({exc.reason or exc})")
        reason = f" ({exc})" if exc else ""
        return BrokerUnavailable(
            f"broker {where} closed the connection before answering CONNECT{reason}", cause=CAUSES["closed_at_connect"]
        )


def _first_without_topic(packets: Sequence[ReceivedPacket]) -> int | None:
    """Return the place of the first message whose topic is empty, or None."""
    for place, packet in enumerate(packets):
        if isinstance(packet, _MESSAGES) and not packet.topic:
            return place
    return None
