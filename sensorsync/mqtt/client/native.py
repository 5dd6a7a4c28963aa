"""The native engine: one MQTT 5 connection that translates between bytes and packets.

The codec is `mqtt5` (sans-I/O, Rust). This module adds keep-alive in both directions, and the handling of broken and huge
packets. It takes as few Python steps per packet as possible: all packets of one read of the socket are passed on in one list.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import cast

import mqtt5
from mqtt5 import ConnAckPacket, DisconnectPacket, DisconnectReasonCode, Packet

from sensorsync.errors import SensorsyncError
from sensorsync.mqtt.client.base import BrokerConnection, ConnectionHandler
from sensorsync.mqtt.client.broken_packets import (
    MAX_PACKET,
    HugePublish,
    ReceivedPacket,
    packet_length,
    parse_broken_publish,
)
from sensorsync.mqtt.client.diagnosis import cause_of_first_bytes
from sensorsync.mqtt.client.errors import BrokerUnavailable, broker_error
from sensorsync.mqtt.client.options import ConnectOptions

READ_CHUNK = 256 * 1024
"""Largest number of bytes in one read. A smaller read means that the socket held no more."""


class _ReadBuffer(threading.local):
    """The read buffer of all sockets of one event loop, which is one thread. The data of one read is taken out before the next.

    `data_received` would need a new buffer of `READ_CHUNK` for every read. That costs three system calls and page faults for a
    few bytes.
    """

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_CHUNK))


_read_buffer = _ReadBuffer()


class NativeConnection(BrokerConnection, asyncio.BufferedProtocol):
    """The native engine's connection: MQTT 5 over TCP or TLS."""

    def __init__(self, options: ConnectOptions, handler: ConnectionHandler) -> None:
        super().__init__(options, handler)
        self._transport: asyncio.Transport | None = None
        self._unparsed = bytearray()
        self._huge_publish: HugePublish | None = None
        self._keep_alive = options.keep_alive
        self._last_received = self._last_sent
        self._pinged_at: float | None = None
        self._keep_alive_timer: asyncio.TimerHandle | None = None

    # -- called by the owner --------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """True when the connection is neither lost nor closing."""
        return self._transport is not None and not self._closing and not self._closed.done()

    async def connect(self) -> None:
        """See BrokerConnection."""
        options = self.options
        await self._loop.create_connection(
            lambda: self,
            options.host,
            options.port,
            ssl=options.tls,
            server_hostname=(options.server_name or options.host) if options.tls else None,
            happy_eyeballs_delay=options.happy_eyeballs_delay,
        )

    def send(self, packets: Sequence[Packet]) -> None:
        """See BrokerConnection."""
        if self.alive:
            self._last_sent = self._loop.time()
            cast(asyncio.Transport, self._transport).write(b"".join([packet.write() for packet in packets]))

    def pause_reading(self) -> None:
        """See BrokerConnection."""
        if self.alive and not self._reading_paused:
            self._reading_paused = True
            cast(asyncio.Transport, self._transport).pause_reading()

    def resume_reading(self) -> None:
        """See BrokerConnection."""
        if self.alive and self._reading_paused:
            self._reading_paused = False
            self._pinged_at = None
            self._last_received = self._loop.time()
            cast(asyncio.Transport, self._transport).resume_reading()

    async def close(self, *, end_session: bool = False, timeout: float = 2.0) -> bool:
        """Send what is buffered and a DISCONNECT, then close the socket. Return True when the broker has read it all.

        The broker closes the connection when it has read a DISCONNECT (section 3.14.4). We wait for that up to `timeout` seconds,
        because closing a socket with unread input sends a reset, which may overtake our last PUBACKs. `end_session` sets the
        session's expiry to 0 ([MQTT-3.14.2-2]).
        """
        if not self.alive:
            return False
        transport = cast(asyncio.Transport, self._transport)
        self.resume_reading()
        self.send([DisconnectPacket(session_expiry_interval=0 if end_session else None)])
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
        """See BrokerConnection."""
        self._error = self._error or error
        if self._transport is not None:
            self._transport.abort()

    # -- called by asyncio ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._last_sent = self._loop.time()
        self._transport.write(self.options.connect_packet().write())

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the protocol's
        return _read_buffer.view

    def buffer_updated(self, nbytes: int) -> None:
        self._last_received = self._loop.time()
        self._pinged_at = None
        rest = self._unparsed
        if rest:
            rest += _read_buffer.view[:nbytes]
        packets: list[ReceivedPacket] = []
        with memoryview(rest) if rest else _read_buffer.view[:nbytes] as data:
            end = len(data)
            position = self._receive_huge_publish(self._huge_publish, data, packets) if self._huge_publish else 0
            while position < end:
                try:
                    while position < end:
                        packet, length = mqtt5.read(data[position:])
                        position += length
                        packets.append(packet)
                except BaseException as error:
                    # The codec panics on text that is not UTF-8, and a panic is not an Exception.
                    if not isinstance(error, IndexError | ValueError) and type(error).__name__ != "PanicException":
                        raise
                    length = self._handle_codec_error(data[position:], error, packets)
                    if not length:
                        break
                    position += length
            if not rest:
                rest += data[position:]
                position = 0
        del rest[:position]
        if packets:
            self._dispatch(packets, more=nbytes >= READ_CHUNK)

    def pause_writing(self) -> None:
        self._handler.writing_paused(True)

    def resume_writing(self) -> None:
        self._handler.writing_paused(False)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._keep_alive_timer is not None:
            self._keep_alive_timer.cancel()
        self._handle_closed(exc)

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _handle_codec_error(self, data: memoryview, error: BaseException, packets: list[ReceivedPacket]) -> int:
        """Handle data that the codec cannot read, and return the number of bytes that were consumed.

        They belong to a broken PUBLISH, which is appended to `packets`, or to a huge one. 0 means that more data is needed, or
        that the connection was aborted.
        """
        if self.connack is None and not packets and (cause := cause_of_first_bytes(start := bytes(data[:16]))):
            # Such a peer may never send the rest of what seems to be a long packet, so we do not wait for it.
            message = f"broker {self.options.address}: {cause.description} (its answer begins with {start!r})"
            self.abort(broker_error(cause, message))
            return 0
        try:
            length = packet_length(data)
            if length is not None and length > max(MAX_PACKET, len(data)):
                return self._receive_huge_publish(HugePublish(data[0], length), data, packets)
            if length is None or length > len(data):
                if isinstance(error, IndexError):
                    return 0  # the rest of this packet has not arrived yet
            elif broken := parse_broken_publish(data[:length], str(error)):
                packets.append(broken)
                return length
        except ValueError as malformed:
            error = malformed
        self._abort_malformed(error)
        return 0

    def _receive_huge_publish(self, huge: HugePublish, data: memoryview, packets: list[ReceivedPacket]) -> int:
        """Return how many bytes of `data` belong to a packet that is too large to be kept.

        The packet is appended to `packets` once all of it has arrived.
        """
        try:
            return huge.feed(data, packets)
        except ValueError as malformed:
            self._abort_malformed(malformed)
            return len(data)
        finally:
            self._huge_publish = huge if huge.bytes_missing else None

    def _send_topic_alias_invalid(self) -> None:
        self.send([DisconnectPacket(reason_code=DisconnectReasonCode.TOPIC_ALIAS_INVALID)])

    def _start_keep_alive(self, connack: ConnAckPacket) -> None:
        if connack.server_keep_alive is not None:
            self._keep_alive = connack.server_keep_alive
        self._check_keep_alive()

    def _check_keep_alive(self) -> None:
        """Ping when either side was silent for half the keep-alive interval ([MQTT-3.1.2-20]). Abort when a ping is not answered."""
        if not self._keep_alive or not self.alive:
            return
        now, half = self._loop.time(), self._keep_alive / 2
        unanswered = self._pinged_at is not None and not self._reading_paused
        if unanswered and now - cast(float, self._pinged_at) >= half:
            self.abort(BrokerUnavailable(f"broker {self.options.address} did not answer a ping for {half:g} s"))
            return
        silent = now - self._last_received >= half and not self._reading_paused and not unanswered
        if silent or now - self._last_sent >= half:
            self._pinged_at = now if self._pinged_at is None else self._pinged_at
            self._send_ping()
        self._keep_alive_timer = self._loop.call_later(half / 4, self._check_keep_alive)
