"""The paho engine's connection: one paho client for one connection, driven by the event loop that everything else runs on.

paho's own loop (`loop_start`) is a thread a connection around `select()`, which cannot watch a file descriptor above 1023. So the
event loop watches the socket, and calls `loop_read`, `loop_write` and `loop_misc`, which paho offers for that.

paho chooses the packet ids of what we publish, and knows DUP only within a client. A message that is sent again after a lost
connection is a new one for it; so it is for the broker, for a publisher's sessions end with their connections.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mqtt5 import ConnAckPacket, Packet

from sensorsync.errors import SensorsyncError
from sensorsync.mqtt.client.base import PING, BrokerConnection, ConnectionHandler
from sensorsync.mqtt.client.broken_packets import ReceivedPacket
from sensorsync.mqtt.client.connect import connect_with_timeout
from sensorsync.mqtt.client.errors import BrokerUnavailable
from sensorsync.mqtt.client.options import ConnectOptions
from sensorsync.mqtt.client.paho.client import close_socket, connect_in_thread, make_client
from sensorsync.mqtt.client.paho.exchange import PacketTranslator
from sensorsync.mqtt.client.paho.packets import disconnect_properties

MAX_PACKETS_PER_READ = 256
"""Packets that are read in one turn of the event loop: the other connections want theirs, too."""
_DISCARD_CHUNK = 64 * 1024
_KEEP_ALIVE_TIMEOUT = 0x8D
_PROTOCOL_ERROR = 0x82


class PahoConnection(BrokerConnection):
    """See Conversation. MQTT 3.1.1 has no Receive Maximum: then it leaves what is above `receive_maximum` in the socket."""

    def __init__(self, options: ConnectOptions, handler: ConnectionHandler) -> None:
        super().__init__(options, handler)
        self._client = make_client(options)
        self._translator = PacketTranslator(self._client)
        self._is_mqtt5 = options.protocol == "5"
        self._fd = -1
        """The socket's file descriptor while it is open."""
        self._keep_alive = options.keep_alive_seconds
        self._reading = False
        self._write_pending = False
        """What was sent last is not all in the socket yet."""
        self._keep_alive_timer: asyncio.TimerHandle | None = None

    # -- Conversation --------------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Neither lost nor closing."""
        return self._fd >= 0 and not self._closing

    async def connect(self) -> None:
        """See Conversation."""
        client = self._client
        await connect_in_thread(client, self.options)
        sock = client.socket()
        if sock is None:
            raise ConnectionResetError("the connection was closed before CONNECT was sent")
        self._fd = sock.fileno()
        with _duplicate_socket(self._fd) as twin:  # PUBACKs must not wait for one another (Nagle's algorithm)
            twin.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        self._last_sent = self._loop.time()
        if client.want_write():
            self._on_register_write()
        self._update_reader()

    def send(self, packets: Sequence[Packet]) -> None:
        """See Conversation. Raises TypeError for packets that only brokers send."""
        if not self.alive:
            return
        self._last_sent = self._loop.time()
        self._translator.send(packets)
        self._update_reader()  # what was acknowledged makes room
        if self._client.want_write() and not self._write_pending:
            self._write_pending = True
            self._handler.writing_paused(True)

    def pause_reading(self) -> None:
        """See Conversation."""
        self._reading_paused = True
        self._update_reader()

    def resume_reading(self) -> None:
        """See Conversation."""
        self._reading_paused = False
        self._update_reader()

    async def close(self, *, end_session: bool = False, timeout: float = 2.0) -> bool:
        """See Conversation. paho closes the socket as soon as DISCONNECT is sent; a twin of it stays, until the broker hangs up.

        In MQTT 3.1.1 a session ends with a connection that has a clean session ([MQTT-3.1.2-6]): one more is made for that. So it is
        over TLS and a WebSocket, where nothing proves that DISCONNECT was read.
        """
        if not self.alive:
            return False
        self._closing = True
        with _duplicate_socket(self._fd) as twin:
            self._client.disconnect(properties=disconnect_properties(end_session=end_session and self._is_mqtt5))
            await asyncio.wait([self._closed], timeout=timeout)
            if self._fd >= 0:
                self.abort(None)
                return False
            secure_websocket = self.options.tls is not None and self.options.websocket_path is not None
            hung_up = await _wait_for_hang_up(twin, timeout, data_is_enough=secure_websocket)
        if end_session and not self.options.clean_start and (secure_websocket or not self._is_mqtt5):
            return await self._end_session(timeout)
        return hung_up

    def abort(self, error: SensorsyncError | None) -> None:
        """See Conversation."""
        self._error = self._error or error
        if self._fd >= 0:
            self._on_socket_close()
            close_socket(self._client)
        else:
            self._client.abort_handshake()

    def _start_keep_alive(self, connack: ConnAckPacket) -> None:
        if connack.server_keep_alive is not None:
            self._keep_alive = connack.server_keep_alive
        self._check_keep_alive()

    # -- what the event loop calls -------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        client, arrived = self._client, self._translator.received
        pending = getattr(client.socket(), "pending", int)  # TLS may hold what the event loop cannot see
        while self._reading and len(arrived) < MAX_PACKETS_PER_READ:
            before = len(arrived)
            try:
                client.loop_read()
            except ValueError as error:
                self._abort_malformed(error)
                break
            self._update_reader()  # the window may be full now
            if len(arrived) == before and not (self._reading and pending()):
                break
        packets = self._translator.take_received()
        more = len(packets) >= MAX_PACKETS_PER_READ
        if packets:
            self._dispatch(packets, more=more)
        if more and self._reading:
            self._loop.call_soon(self._on_readable)

    def _on_writable(self) -> None:
        self._client.loop_write()
        if self._write_pending and not self._client.want_write():
            self._write_pending = False
            self._handler.writing_paused(False)

    def _check_keep_alive(self) -> None:
        """Keep-alive: paho pings and waits for the answer. While that is left in the socket, the broker must still hear of us."""
        if self._fd < 0 or not self._keep_alive:
            return
        if self._reading:
            self._client.loop_misc()
        elif self._loop.time() - self._last_sent >= self._keep_alive / 2:
            self._last_sent = self._loop.time()
            self._translator.send(PING)
            self._pings_sent += 1
        if self._fd >= 0:
            self._keep_alive_timer = self._loop.call_later(self._keep_alive / 8, self._check_keep_alive)

    # -- what paho calls -----------------------------------------------------------------------------------------------------

    def _on_register_write(self, *_: Any) -> None:
        self._loop.add_writer(self._fd, self._on_writable)

    def _on_unregister_write(self, *_: Any) -> None:
        self._loop.remove_writer(self._fd)

    def _on_socket_close(self, *_: Any) -> None:
        """Called before it is closed: its number may be another's at once."""
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._fd, self._reading = -1, False
        if self._keep_alive_timer is not None:
            self._keep_alive_timer.cancel()
        self._loop.call_soon(self._after_socket_closed)

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _update_reader(self) -> None:
        """Read or don't, as back-pressure and the window of MQTT 3.1.1 have it now."""
        held = (
            not self._is_mqtt5
            and len(self._translator.unacknowledged) >= self.options.receive_maximum
            and not self._closing
        )
        wanted = self._fd >= 0 and not self._reading_paused and not held
        if wanted == self._reading:
            return
        self._reading = wanted
        if wanted:
            self._loop.add_reader(self._fd, self._on_readable)
            self._loop.call_soon(self._on_readable)  # TLS may hold something already
        elif self._fd >= 0:
            self._loop.remove_reader(self._fd)

    def _after_socket_closed(self) -> None:
        """The socket is closed, and paho has told why."""
        ending = self._translator.disconnect_reason
        if self._error is None and ending == _KEEP_ALIVE_TIMEOUT:
            self._error = BrokerUnavailable(f"broker {self.options.address} did not answer a ping")
        elif self._error is None and ending == _PROTOCOL_ERROR:
            self._abort_malformed(ValueError("paho-mqtt cannot read it"))
        self._handle_closed(self._translator.last_error)

    async def _end_session(self, timeout: float) -> bool:
        """CONNACK is the proof: a clean start has discarded the session ([MQTT-3.1.2-4]), and the new one ends with its connection."""
        last = PahoConnection(replace(self.options, clean_start=True, session_expiry=0.0), _NullHandler())
        try:
            await connect_with_timeout(last)
        except SensorsyncError:
            return False
        await last.close(timeout=timeout)
        return True


def _duplicate_socket(fd: int) -> socket.socket:
    """Another descriptor of the same socket."""
    return socket.socket(fileno=os.dup(fd))


async def _wait_for_hang_up(duplicate: socket.socket, timeout: float, *, data_is_enough: bool) -> bool:
    """Whether the broker closes the connection within `timeout` seconds: it has read our DISCONNECT (section 3.14.4).

    `data_is_enough`: it sends something before. mosquitto's WebSockets then wait for our part of TLS's closing alerts, which only paho
    could
    send. It is no proof, for what was on the way before counts, too.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            while await loop.sock_recv(duplicate, _DISCARD_CHUNK) and not data_is_enough:
                pass
    except TimeoutError:
        return False
    except OSError:
        pass  # a reset is an end, too
    return True


class _NullHandler:
    """The Handler of a connection that is only made to end a session."""

    def connection_ready(self, connection: BrokerConnection) -> None:
        pass

    def packets_received(self, packets: Sequence[ReceivedPacket], *, more: bool) -> None:
        pass

    def connection_lost(self, error: SensorsyncError | None) -> None:
        pass

    def writing_paused(self, paused: bool) -> None:
        pass
