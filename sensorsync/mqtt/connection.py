"""One MQTT 5 connection: bytes on one side, packets on the other.

The codec is `mqtt5` (sans-I/O, Rust). What is ours: the CONNECT handshake, keep-alive both ways, errors in words, and as few Python
steps a packet as can be: all packets that one read of the socket held are handed over in one list.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from typing import Protocol, cast

import mqtt5
from mqtt5 import ConnAckPacket, DisconnectPacket, PingReqPacket, PingRespPacket

from sensorsync.errors import SensorsyncError
from sensorsync.mqtt.causes import CAUSES
from sensorsync.mqtt.diagnosis import of_first_bytes, of_tls_error
from sensorsync.mqtt.frames import Received, broken_publish, frame_length
from sensorsync.mqtt.options import ConnectOptions
from sensorsync.mqtt.reasons import BrokerRefused, BrokerUnavailable, broker_error, connack_error, disconnect_error

logger = logging.getLogger(__name__)

_PINGREQ = PingReqPacket().write()
_OURS = frozenset({PingRespPacket, DisconnectPacket})
READ_CHUNK = 256 * 1024
"""asyncio reads at most this many bytes at once: a shorter chunk means that the socket held no more."""


class Handler(Protocol):
    """Whoever owns a connection. Called on the event loop's thread; must not raise."""

    def connection_ready(self, connection: Connection) -> None:
        """CONNACK said yes. Packets of a resumed session may follow at once, before `connect` returns."""
        ...

    def packets_received(self, packets: Sequence[Received], *, more: bool) -> None:
        """What one read of the socket held, in order; `more`: the socket probably holds more already."""
        ...

    def connection_lost(self, error: SensorsyncError | None) -> None:
        """The connection is gone: an error, or None after our own close(). Called exactly once after a successful connect()."""
        ...

    def writing_paused(self, paused: bool) -> None:
        """The send buffer is full (True) or has room again (False)."""
        ...


class Connection(asyncio.Protocol):
    """A connected, acknowledged MQTT 5 connection. Make one with `connecting.connect`."""

    def __init__(self, options: ConnectOptions, handler: Handler) -> None:
        self.options = options
        self.connack: ConnAckPacket | None = None
        self.rtt = 0.0
        """Seconds between CONNECT and CONNACK."""
        self.handshake: asyncio.Future[ConnAckPacket]
        """Done once CONNACK said yes; else it holds the error."""
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self.handshake = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._rest = bytearray()
        self._error: SensorsyncError | None = None
        self._closing = False
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._keep_alive = options.keep_alive
        self._last_sent = self._last_received = self._loop.time()
        self._pinged_at: float | None = None
        self._pong: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._timer: asyncio.TimerHandle | None = None

    # -- what the owner calls ------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Neither lost nor closing."""
        return self._transport is not None and not self._closing and not self._closed.done()

    def write(self, data: bytes) -> None:
        """Send encoded packets. Silently nothing once the connection is gone (its loss is reported elsewhere)."""
        if self.alive:
            self._last_sent = self._loop.time()
            cast(asyncio.Transport, self._transport).write(data)

    def pause_reading(self) -> None:
        """Leave what arrives in the socket: the peer's TCP window fills, and it must wait."""
        if self.alive and not self._reading_paused:
            self._reading_paused = True
            cast(asyncio.Transport, self._transport).pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self.alive and self._reading_paused:
            self._reading_paused = False
            self._pinged_at = None
            self._last_received = self._loop.time()
            cast(asyncio.Transport, self._transport).resume_reading()

    async def ping(self, timeout: float) -> bool:
        """Whether PINGRESP came within `timeout` seconds: the broker has read all that we wrote before."""
        self._pong = self._loop.create_future()
        self.write(_PINGREQ)
        done, _ = await asyncio.wait([self._pong, self._closed], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return self._pong in done

    async def close(self, *, end_session: bool = False, timeout: float = 2.0) -> bool:
        """Send what is buffered and a DISCONNECT, and close the socket; returns whether the broker has read it all.

        It hangs up when it has read a DISCONNECT (section 3.14.4). We wait for that up to `timeout` seconds: a socket that is closed
        with unread input sends a reset, which may overtake our last PUBACKs. `end_session` sets the session's expiry to 0
        ([MQTT-3.14.2-2]).
        """
        if not self.alive:
            return False
        transport = cast(asyncio.Transport, self._transport)
        self.resume_reading()
        self.write(DisconnectPacket(session_expiry_interval=0 if end_session else None).write())
        self._closing = True
        await asyncio.wait([self._closed], timeout=timeout)
        hung_up = self._closed.done()
        if not hung_up:
            transport.close()
            await asyncio.wait([self._closed], timeout=timeout)
        if not self._closed.done():
            transport.abort()
        return hung_up

    def abort(self, error: SensorsyncError | None) -> None:
        """Drop the connection without a DISCONNECT; `error` is what the owner is told."""
        self._error = self._error or error
        if self._transport is not None:
            self._transport.abort()

    # -- what asyncio calls --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._last_sent = self._loop.time()
        self._transport.write(self.options.packet().write())

    def data_received(self, data: bytes) -> None:
        self._last_received = self._loop.time()
        self._pinged_at = None
        source: bytes | bytearray = data
        if self._rest:
            self._rest += data
            source = self._rest
        packets: list[Received] = []
        position, end = 0, len(source)
        with memoryview(source) as view:
            while position < end:
                try:
                    while position < end:
                        packet, length = mqtt5.read(view[position:])
                        position += length
                        packets.append(packet)
                except BaseException as error:
                    # The codec panics on text that is not UTF-8, and a panic is no Exception.
                    if not isinstance(error, IndexError | ValueError) and type(error).__name__ != "PanicException":
                        raise
                    length = self._refused(view[position:], error, packets)
                    if not length:
                        break
                    position += length
        if source is self._rest:
            del self._rest[:position]
        elif position < end:
            self._rest += data[position:]
        if packets:
            self._dispatch(packets, more=len(data) >= READ_CHUNK)

    def pause_writing(self) -> None:
        self._handler.writing_paused(True)

    def resume_writing(self) -> None:
        self._handler.writing_paused(False)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._closed.done():
            self._closed.set_result(None)
        error = self._error
        if error is None and not self._closing:
            reason = f": {exc}" if exc else ""
            error = BrokerUnavailable(f"connection to broker {self.options.where} lost{reason}")
        if self.handshake.done():
            if not self.handshake.cancelled() and self.handshake.exception() is None:
                self._handler.connection_lost(error)
        else:
            self.handshake.set_exception(self._error or self._hung_up(exc))

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _refused(self, data: memoryview, error: BaseException, packets: list[Received]) -> int:
        """The codec can't read on. Bytes of a broken PUBLISH that was put into `packets`, or 0: wait for more, or all is over."""
        if self.connack is None and not packets and (cause := of_first_bytes(start := bytes(data[:16]))):
            # Such a peer may never send the rest of what looks like a long packet: wait for no more.
            self.abort(
                broker_error(cause, f"broker {self.options.where}: {cause.cause} (its answer begins with {start!r})")
            )
            return 0
        try:
            length = frame_length(data)
            if length is None or length > len(data):
                if isinstance(error, IndexError):
                    return 0  # the rest of this packet is still on its way
            elif broken := broken_publish(data[:length], str(error)):
                packets.append(broken)
                return length
        except ValueError as malformed:
            error = malformed
        self._malformed(error)
        return 0

    def _dispatch(self, packets: list[Received], *, more: bool) -> None:
        if self.connack is None:
            self._handshake(packets.pop(0))
        goodbye: DisconnectPacket | None = None
        if not _OURS.isdisjoint(map(type, packets)):
            goodbye = next((p for p in packets if isinstance(p, DisconnectPacket)), None)
            if self._pong is not None and not self._pong.done() and any(type(p) is PingRespPacket for p in packets):
                self._pong.set_result(None)
            packets = [p for p in packets if type(p) not in _OURS]
        if packets and self.connack is not None and not self._closing:
            self._handler.packets_received(packets, more=more)
        if goodbye is not None:
            self.abort(disconnect_error(self.options.where, goodbye))

    def _handshake(self, packet: Received) -> None:
        if isinstance(packet, DisconnectPacket):
            self.abort(disconnect_error(self.options.where, packet))
        elif not isinstance(packet, ConnAckPacket):
            self.abort(BrokerRefused(f"{self.options.where} answered CONNECT with {type(packet).__name__}"))
        elif int(packet.reason_code) != 0:
            self.abort(connack_error(self.options.where, packet))
        elif not self.handshake.done():
            self.connack = packet
            self.rtt = self._loop.time() - self._last_sent
            if packet.server_keep_alive is not None:
                self._keep_alive = packet.server_keep_alive
            self.handshake.set_result(packet)
            self._handler.connection_ready(self)
            self._watch()

    def _hung_up(self, exc: Exception | None) -> SensorsyncError:
        """Why there was no answer to CONNECT. In TLS 1.3 the broker judges our certificate only now."""
        where = self.options.where
        if isinstance(exc, ssl.SSLError):
            cause = of_tls_error(exc, with_certificate=self.options.has_certificate)
            return broker_error(cause, f"TLS with broker {where} failed: {cause.cause} ({exc.reason or exc})")
        reason = f" ({exc})" if exc else ""
        return BrokerUnavailable(
            f"broker {where} closed the connection before answering CONNECT{reason}", cause=CAUSES["closed_at_connect"]
        )

    def _malformed(self, error: BaseException) -> None:
        self.abort(
            BrokerUnavailable(
                f"{self.options.where} sent what is not MQTT 5 ({error})",
                hint="is this an MQTT listener, and TLS set as the broker expects it (mqtt.tls)?",
            )
        )

    def _watch(self) -> None:
        """Keep-alive: we ping when either side was quiet for half the interval ([MQTT-3.1.2-20]); no answer, no connection."""
        if not self._keep_alive or not self.alive:
            return
        now, half = self._loop.time(), self._keep_alive / 2
        unanswered = self._pinged_at is not None and not self._reading_paused
        if unanswered and now - cast(float, self._pinged_at) >= half:
            self.abort(BrokerUnavailable(f"broker {self.options.where} did not answer a ping for {half:g} s"))
            return
        silent = now - self._last_received >= half and not self._reading_paused and not unanswered
        if silent or now - self._last_sent >= half:
            self._pinged_at = now if self._pinged_at is None else self._pinged_at
            self.write(_PINGREQ)
        self._timer = self._loop.call_later(half / 4, self._watch)
