"""The paho engine's connection: one paho client per connection, driven by the process's event loop.

paho's own loop (`loop_start`) is one thread per connection around `select()`, which cannot watch a file descriptor above 1023.
Therefore the event loop watches the socket, and calls `loop_read`, `loop_write` and `loop_misc`, which paho offers for that.

paho chooses the packet ids of published messages, and knows DUP only within one client. A message that is sent again after a lost
connection is a new message for paho. It is a new one for the broker, too, because a publisher's sessions end with their
connections.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mqtt5 import ConnAckPacket, Packet
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

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
"""Packets that are read in one turn of the event loop. The limit leaves time for the other connections."""
_DISCARD_CHUNK = 64 * 1024
_KEEP_ALIVE_TIMEOUT = 0x8D
_PROTOCOL_ERROR = 0x82
_TOPIC_ALIAS_INVALID = ReasonCode(PacketTypes.DISCONNECT, identifier=0x94)


class PahoConnection(BrokerConnection):
    """A connection of the paho engine (see BrokerConnection).

    MQTT 3.1.1 has no Receive Maximum. There, messages beyond `receive_maximum` are left in the socket.
    """

    def __init__(self, options: ConnectOptions, handler: ConnectionHandler) -> None:
        super().__init__(options, handler)
        self._client = make_client(options)
        self._translator = PacketTranslator(self._client)
        self._is_mqtt5 = options.protocol == "5"
        self._fd = -1
        """File descriptor of the socket while it is open, otherwise -1."""
        self._keep_alive = options.keep_alive_seconds
        self._reading = False
        self._write_pending = False
        """True when a part of what was sent last is not in the socket yet."""
        self._keep_alive_timer: asyncio.TimerHandle | None = None

    # -- BrokerConnection ----------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """True when the connection is neither lost nor closing."""
        return self._fd >= 0 and not self._closing

    async def connect(self) -> None:
        """See BrokerConnection."""
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
        """See BrokerConnection. Raises TypeError for packets that only brokers send."""
        if not self.alive:
            return
        self._last_sent = self._loop.time()
        self._translator.send(packets)
        self._update_reader()  # acknowledged messages make room
        if self._client.want_write() and not self._write_pending:
            self._write_pending = True
            self._handler.writing_paused(True)

    def pause_reading(self) -> None:
        """See BrokerConnection."""
        self._reading_paused = True
        self._update_reader()

    def resume_reading(self) -> None:
        """See BrokerConnection."""
        self._reading_paused = False
        self._update_reader()

    async def close(self, *, end_session: bool = False, timeout: float = 2.0) -> bool:
        """Disconnect (see BrokerConnection).

        paho closes the socket as soon as DISCONNECT is sent. A duplicate of the socket stays open until the broker closes the
        connection. In MQTT 3.1.1 a session ends with a connection that has a clean session ([MQTT-3.1.2-6]), so one more
        connection is made for that. The same is done over TLS and a WebSocket, where nothing proves that DISCONNECT was read.
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
        """See BrokerConnection."""
        self._error = self._error or error
        if self._fd >= 0:
            self._on_socket_close()
            close_socket(self._client)
        else:
            self._client.abort_handshake()

    def _send_topic_alias_invalid(self) -> None:
        self._client.disconnect(_TOPIC_ALIAS_INVALID)
        self._client.loop_write()  # paho closes the socket once it is sent

    def _start_keep_alive(self, connack: ConnAckPacket) -> None:
        if connack.server_keep_alive is not None:
            self._keep_alive = connack.server_keep_alive
        self._check_keep_alive()

    # -- called by the event loop ---------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        client, arrived = self._client, self._translator.received
        pending = getattr(client.socket(), "pending", int)  # TLS may hold data that the event loop cannot see
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
        """Let paho send pings and wait for the answers.

        While reading is paused the answers stay in the socket. The broker must still receive pings then, so PacketTranslator
        sends them.
        """
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

    # -- called by paho -------------------------------------------------------------------------------------------------------

    def _on_register_write(self, *_: Any) -> None:
        self._loop.add_writer(self._fd, self._on_writable)

    def _on_unregister_write(self, *_: Any) -> None:
        self._loop.remove_writer(self._fd)

    def _on_socket_close(self, *_: Any) -> None:
        """Stop watching the socket before it is closed, because its file descriptor may be that of another socket at once."""
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._fd, self._reading = -1, False
        if self._keep_alive_timer is not None:
            self._keep_alive_timer.cancel()
        self._loop.call_soon(self._after_socket_closed)

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _update_reader(self) -> None:
        """Start or stop reading, as back-pressure and the window of MQTT 3.1.1 require it."""
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
            self._loop.call_soon(self._on_readable)  # TLS may hold data already
        elif self._fd >= 0:
            self._loop.remove_reader(self._fd)

    def _after_socket_closed(self) -> None:
        """Report the end of the connection after paho has reported its reason."""
        ending = self._translator.disconnect_reason
        if self._error is None and ending == _KEEP_ALIVE_TIMEOUT:
            self._error = BrokerUnavailable(f"broker {self.options.address} did not answer a ping")
        elif self._error is None and ending == _PROTOCOL_ERROR:
            self._abort_malformed(ValueError("paho-mqtt cannot read it"))
        self._handle_closed(self._translator.last_error)

    async def _end_session(self, timeout: float) -> bool:
        """End the session by one more connection. Return True when its CONNACK has arrived, which is the proof.

        A clean start has then discarded the session ([MQTT-3.1.2-4]), and the new one ends with its connection.
        """
        last = PahoConnection(replace(self.options, clean_start=True, session_expiry=0.0), _NullHandler())
        try:
            await connect_with_timeout(last)
        except SensorsyncError:
            return False
        await last.close(timeout=timeout)
        return True


def _duplicate_socket(fd: int) -> socket.socket:
    """Return another descriptor of the same socket."""
    return socket.socket(fileno=os.dup(fd))


async def _wait_for_hang_up(duplicate: socket.socket, timeout: float, *, data_is_enough: bool) -> bool:
    """Return True when the broker closes the connection within `timeout` seconds. It has then read our DISCONNECT (section
    3.14.4).

    `data_is_enough`: data that arrives first counts as well. mosquitto's WebSockets then wait for our part of TLS's closing
    alerts, which only paho could send. Data is not a proof, because it may have been sent before.
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
    """The ConnectionHandler of a connection that is made only to end a session."""

    def connection_ready(self, connection: BrokerConnection) -> None:
        pass

    def packets_received(self, packets: Sequence[ReceivedPacket], *, more: bool) -> None:
        pass

    def connection_lost(self, error: SensorsyncError | None) -> None:
        pass

    def writing_paused(self, paused: bool) -> None:
        pass
