"""A paho client for one connection. It connects in a thread, because paho connects only by a blocking call."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, Client, WebsocketConnectionError
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket

from sensorsync.mqtt.client.broken_packets import BrokenPublish, parse_broken_publish
from sensorsync.mqtt.client.causes import CAUSES
from sensorsync.mqtt.client.errors import BrokerUnavailable
from sensorsync.mqtt.client.options import ConnectOptions
from sensorsync.mqtt.client.paho.packets import connect_properties

_CONNECT = 0x10
_CONNECT_FLAGS = 7
"""Place of the flags behind CONNECT's fixed header: protocol name (6 bytes), protocol version (1)."""
_PASSWORD_FLAG = 0x40
_MORE_LENGTH_BYTES = 0x80


class PahoClient(Client):
    """paho's client with three fixes.

    After a failed handshake, paho does not close the socket. And paho closes the connection on a PUBLISH whose properties are
    broken; the broker would send that message again on every new connection. And paho leaves out a password that has no user
    name, so that the login would be an anonymous one.
    """

    pending_socket: socket.socket | None = None
    """Socket of a handshake that paho has not taken over yet."""
    on_broken_publish: Callable[[BrokenPublish], None]
    lone_password: bytes | None = None
    """A password without a user name, which MQTT 5 allows (section 3.1.2.9)."""

    def abort_handshake(self) -> None:
        """End a handshake that is in progress in another thread.

        That thread closes the socket. If it were closed here, its file descriptor could be that of another socket at once.
        """
        if self.pending_socket is not None and self.socket() is None:
            with suppress(OSError):
                self.pending_socket.shutdown(socket.SHUT_RDWR)

    def close_pending_socket(self) -> None:
        """Close the socket of a handshake that failed."""
        if self.pending_socket is not None and self.socket() is None:
            self.pending_socket.close()

    def _handle_publish(self) -> MQTTErrorCode:
        try:
            return super()._handle_publish()
        except MalformedPacket as error:
            five = self._protocol == MQTTProtocolVersion.MQTTv5
            # The parser skips the remaining length, so 0 stands for it.
            frame = bytes((self._in_packet["command"], 0)) + self._in_packet["packet"]
            broken = parse_broken_publish(memoryview(frame), str(error)) if five else None
            if broken is None:
                raise
            self.on_broken_publish(broken)
            return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _packet_queue(self, command: int, packet: bytes | bytearray, mid: int, qos: int, *more: Any) -> MQTTErrorCode:
        if command == _CONNECT and self.lone_password is not None:
            packet = _with_password(packet, self.lone_password)
        return super()._packet_queue(command, packet, mid, qos, *more)

    def _create_socket_connection(self) -> socket.socket:
        self.pending_socket = super()._create_socket_connection()
        return self.pending_socket


def make_client(options: ConnectOptions) -> PahoClient:
    """Create a client that acknowledges nothing and never reconnects by itself. The link decides about both."""
    five = options.protocol == "5"
    client = PahoClient(
        CallbackAPIVersion.VERSION2,
        options.client_id,
        clean_session=None if five else options.clean_start,
        protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
        transport="tcp" if options.websocket_path is None else "websockets",
        reconnect_on_failure=False,
        manual_ack=True,
    )
    # paho tries the broker's addresses one after the other: two unreachable ones must leave time for the third.
    client.connect_timeout = options.connect_timeout / 3
    client.max_inflight_messages = 0  # InFlightPublishes enforces the window
    if options.username is not None:
        client.username_pw_set(options.username, options.password)
    elif options.password is not None:  # the configuration allows it for MQTT 5 only
        client.lone_password = options.password.encode()
    if options.tls is not None:
        named = _ServerNameContext(options.tls, options.server_name or options.host, client)
        client.tls_set_context(cast(ssl.SSLContext, named))
    if options.websocket_path is not None:
        client.ws_set_options(options.websocket_path)
    return client


def _with_password(connect: bytes | bytearray, password: bytes) -> bytearray:
    """Return a CONNECT without will, user name and password with `password` added (section 3.1.3)."""
    start = next(place for place in range(1, 5) if connect[place] < _MORE_LENGTH_BYTES) + 1
    body = bytearray(connect[start:])
    body[_CONNECT_FLAGS] |= _PASSWORD_FLAG
    body += len(password).to_bytes(2) + password
    length, fixed_header = len(body), bytearray((_CONNECT,))
    while length >= _MORE_LENGTH_BYTES:
        fixed_header.append(length % _MORE_LENGTH_BYTES | _MORE_LENGTH_BYTES)
        length //= _MORE_LENGTH_BYTES
    fixed_header.append(length)
    return fixed_header + body


async def connect_in_thread(client: PahoClient, options: ConnectOptions) -> None:
    """Connect by TCP and TLS, complete the WebSocket handshake, and send CONNECT.

    Raises OSError (ssl.SSLError is one), BrokerUnavailable. paho's blocking call runs in a separate daemon thread, because a
    thread of a pool would delay the end of the process while a broker does not answer.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[None] = loop.create_future()

    def finish(error: BaseException | None) -> None:
        if outcome.done():  # the caller no longer waits
            close_socket(client)
        elif error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(None)

    def work() -> None:
        error: BaseException | None = None
        try:
            _connect(client, options)
        except BaseException as failure:  # noqa: BLE001 - it is raised on the event loop
            client.close_pending_socket()
            error = failure
        try:
            loop.call_soon_threadsafe(finish, error)
        except RuntimeError:  # the loop is closed, and no caller waits
            close_socket(client)

    threading.Thread(target=work, name=f"dial {options.address}", daemon=True).start()
    await outcome


def close_socket(client: Client) -> None:
    """Close the socket without a DISCONNECT. The client must not be used afterwards. paho has no method for this."""
    sock = client.socket()
    client.on_socket_close = client.on_socket_register_write = client.on_socket_unregister_write = None
    if sock is not None:
        sock.close()


def _connect(client: PahoClient, options: ConnectOptions) -> None:
    five = options.protocol == "5"
    try:
        outcome = client.connect(
            options.host,
            options.port,
            keepalive=options.keep_alive_seconds,
            clean_start=options.clean_start if five else MQTT_CLEAN_START_FIRST_ONLY,
            properties=connect_properties(options) if five else None,
        )
    except WebsocketConnectionError as error:
        raise _websocket_refused_error(options, str(error)) from error
    except (ValueError, LookupError) as error:
        # ssl.CertificateError is a ValueError, too. The others come from paho's parsing of the HTTP answer.
        if options.websocket_path is None or isinstance(error, OSError):
            raise
        raise _websocket_refused_error(options, "the answer is not HTTP") from error
    sock = client.socket()
    if outcome != MQTTErrorCode.MQTT_ERR_SUCCESS or sock is None:
        raise ConnectionResetError("the connection was closed before CONNECT was sent")
    if options.websocket_path is not None:
        _fix_partial_sends(sock)


def _fix_partial_sends(websocket: Any) -> None:
    """Fix a bug of paho: it drops a packet that a WebSocket sent only in part, and garbles the next one.

    `send` returns 0 in that case. When it raises BlockingIOError instead, paho calls it again with the same packet, and the
    WebSocket continues where it stopped.
    """
    send = websocket.send

    def send_whole(data: bytes | bytearray) -> int:
        sent: int = send(data)
        if not sent:
            raise BlockingIOError
        return sent

    websocket.send = send_whole


def _websocket_refused_error(options: ConnectOptions, detail: str) -> BrokerUnavailable:
    cause = CAUSES["websocket_refused"]
    return BrokerUnavailable(
        f"broker {options.address}{options.websocket_path}: {cause.description} ({detail})", cause=cause
    )


class _ServerNameContext:
    """The part of ssl.SSLContext that paho uses. paho checks the certificate only for the host to which it connects."""

    def __init__(self, context: ssl.SSLContext, server_name: str, client: PahoClient) -> None:
        self._context = context
        self._server_name = server_name
        self._client = client
        self.check_hostname = context.check_hostname

    def wrap_socket(self, sock: Any, *, server_hostname: str, **options: Any) -> ssl.SSLSocket:  # noqa: ARG002 - paho's call
        """Return a TLS socket that requires a certificate for our server name."""
        made = self._client.pending_socket = self._context.wrap_socket(
            sock, server_hostname=self._server_name, **options
        )
        return made
