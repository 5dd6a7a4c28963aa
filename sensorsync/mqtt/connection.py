"""One MQTT 5 connection: bytes on one side, packets on the other.

The codec is `mqtt5` (sans-I/O, Rust). What is ours: the CONNECT handshake, keep-alive both ways, errors in words, and as few Python
steps a packet as can be: all packets that one read of the socket held are handed over in one list.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Protocol, cast

import mqtt5
from mqtt5 import ConnAckPacket, DisconnectPacket, Packet, PingReqPacket, PingRespPacket

from sensorsync.errors import SensorsyncError
from sensorsync.mqtt.options import ConnectOptions
from sensorsync.mqtt.reasons import BrokerRefused, BrokerUnavailable, connack_error, disconnect_error

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

    def packets_received(self, packets: list[Packet], *, more: bool) -> None:
        """What one read of the socket held, in order; `more`: the socket probably holds more already."""
        ...

    def connection_lost(self, error: SensorsyncError | None) -> None:
        """The connection is gone: an error, or None after our own close(). Called exactly once after a successful connect()."""
        ...

    def writing_paused(self, paused: bool) -> None:
        """The send buffer is full (True) or has room again (False)."""
        ...


class Connection(asyncio.Protocol):
    """A connected, acknowledged MQTT 5 connection. Make one with `connect`."""

    def __init__(self, options: ConnectOptions, handler: Handler) -> None:
        self.options = options
        self.connack: ConnAckPacket | None = None
        self.rtt = 0.0
        """Seconds between CONNECT and CONNACK."""
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[ConnAckPacket] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._rest = bytearray()
        self._error: SensorsyncError | None = None
        self._closing = False
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._keep_alive = options.keep_alive
        self._last_sent = self._last_received = self._loop.time()
        self._pinged_at: float | None = None
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

    async def close(self, *, session_expiry: float | None = None, timeout: float = 2.0) -> None:
        """Send what is buffered and a DISCONNECT, then wait up to `timeout` seconds for the socket to close.

        `session_expiry` (seconds) replaces the session's expiry ([MQTT-3.14.2-2]): 0 ends the session for good.
        """
        if self.alive:
            expiry = None if session_expiry is None else int(session_expiry)
            self.write(DisconnectPacket(session_expiry_interval=expiry).write())
            self._closing = True
            transport = cast(asyncio.Transport, self._transport)
            if self._reading_paused:
                transport.resume_reading()
            transport.close()
        if self._transport is not None and not self._closed.done():
            await asyncio.wait([self._closed], timeout=timeout)
            if not self._closed.done():
                self._transport.abort()

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
        packets: list[Packet] = []
        position, end = 0, len(source)
        with memoryview(source) as view:
            try:
                while position < end:
                    packet, length = mqtt5.read(view[position:])
                    position += length
                    packets.append(packet)
            except IndexError:
                pass  # the rest of this packet is still on its way
            except ValueError as error:
                self._malformed(error)
            except BaseException as error:
                # The codec panics on a topic that is not UTF-8 ([MQTT-1.5.4-1]), and a panic is no Exception.
                if type(error).__name__ != "PanicException":
                    raise
                self._malformed(error)
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
        if self._connected.done():
            if not self._connected.cancelled() and self._connected.exception() is None:
                self._handler.connection_lost(error)
        else:
            self._connected.set_exception(self._error or _handshake_lost(self.options, exc))

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _dispatch(self, packets: list[Packet], *, more: bool) -> None:
        if self.connack is None:
            self._handshake(packets.pop(0))
        goodbye: DisconnectPacket | None = None
        if not _OURS.isdisjoint(map(type, packets)):
            goodbye = next((p for p in packets if isinstance(p, DisconnectPacket)), None)
            packets = [p for p in packets if type(p) not in _OURS]
        if packets and self.connack is not None and not self._closing:
            self._handler.packets_received(packets, more=more)
        if goodbye is not None:
            self.abort(disconnect_error(self.options.where, goodbye))

    def _handshake(self, packet: Packet) -> None:
        if not isinstance(packet, ConnAckPacket):
            self.abort(BrokerRefused(f"{self.options.where} answered CONNECT with {type(packet).__name__}"))
        elif int(packet.reason_code) != 0:
            self.abort(connack_error(self.options.where, packet))
        elif not self._connected.done():
            self.connack = packet
            self.rtt = self._loop.time() - self._last_sent
            if packet.server_keep_alive is not None:
                self._keep_alive = packet.server_keep_alive
            self._connected.set_result(packet)
            self._handler.connection_ready(self)
            self._watch()

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
        if now - self._last_sent >= half or (now - self._last_received >= half and not unanswered):
            self._pinged_at = now if self._pinged_at is None else self._pinged_at
            self.write(_PINGREQ)
        self._timer = self._loop.call_later(half / 4, self._watch)


def _handshake_lost(options: ConnectOptions, exc: Exception | None) -> SensorsyncError:
    return BrokerUnavailable(
        f"broker {options.where} closed the connection before answering CONNECT" + (f" ({exc})" if exc else ""),
        hint="does this port expect TLS (mqtt.tls.enabled), or is it no MQTT 5 listener?",
    )


async def connect(options: ConnectOptions, handler: Handler) -> Connection:
    """Connect and shake hands within `options.connect_timeout` seconds.

    Raises BrokerUnavailable (try again later) or BrokerRefused (don't).
    """
    where = options.where
    connection: Connection | None = None
    try:
        async with asyncio.timeout(options.connect_timeout):
            loop = asyncio.get_running_loop()
            server_name = (options.server_name or options.host) if options.tls else None
            _, connection = await loop.create_connection(
                lambda: Connection(options, handler),
                options.host,
                options.port,
                ssl=options.tls,
                server_hostname=server_name,
            )
            await asyncio.shield(connection._connected)
    except TimeoutError as error:
        raise BrokerUnavailable(
            f"broker {where} did not answer within {options.connect_timeout:g} s",
            hint="check mqtt.host and mqtt.port, and whether a firewall is in the way",
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise BrokerRefused(
            f"the certificate of {where} was not accepted: {error.verify_message}",
            hint="set mqtt.tls.ca_file (CA_CERT_PATH) to the CA that signed it, and mqtt.host to a name that it carries",
        ) from error
    except ssl.SSLError as error:
        raise BrokerRefused(
            f"TLS with {where} failed: {error.reason or error}",
            hint="is this a TLS port? MQTT over TLS is usually on 8883",
        ) from error
    except OSError as error:
        raise BrokerUnavailable(
            f"broker {where} cannot be reached: {error.strerror or error}",
            hint="check mqtt.host and mqtt.port (MQTT_BROKER_HOST)",
        ) from error
    finally:
        if connection is not None and connection.connack is None:
            connection.abort(None)
            connection._connected.cancel()
    return connection
