"""The server's side of one TCP connection of the fake broker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import mqtt5

from tests.fakes.session import Session

if TYPE_CHECKING:
    from tests.fakes.broker import FakeBroker


class ServerConnection(asyncio.Protocol):
    """Decodes what a client sends and hands it to the broker; holds the window and the publisher's debts."""

    def __init__(self, broker: FakeBroker, number: int) -> None:
        self.broker = broker
        self.number = number
        self.connect: mqtt5.ConnectPacket | None = None
        self.session: Session | None = None
        self.swallowing = False
        self.owed: list[bytes] = []
        """PUBACKs for the publisher that are not written yet; they count against its Receive Maximum."""
        self._buffer = bytearray()
        self._watch: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport

    @property
    def client_id(self) -> str:
        return self.connect.client_id if self.connect else ""

    @property
    def window(self) -> int:
        """How many unacknowledged messages the client gets at most."""
        stated = self.connect.receive_max if self.connect else 65535
        return min(stated, self.broker.window)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.broker.connection_opened(self)

    def data_received(self, data: bytes) -> None:
        if not self.is_open():
            return
        self._buffer += data
        while self.is_open() and (packet := self._decode()):
            self.broker.packet_received(self, packet)
        self.pay()
        self._rewind_keep_alive()

    def _decode(self) -> mqtt5.Packet | None:
        try:
            packet, size = mqtt5.read(memoryview(bytes(self._buffer)))
        except IndexError:
            return None  # the rest is still on its way
        except ValueError:
            self.disconnect(mqtt5.DisconnectReasonCode.MALFORMED_PACKET)
            return None
        del self._buffer[:size]
        return packet

    def is_open(self) -> bool:
        """Whether anything goes in or out."""
        return not self.swallowing and not self.transport.is_closing()

    def connection_lost(self, error: Exception | None) -> None:
        if self._watch:
            self._watch.cancel()
        self.broker.connection_closed(self)

    def write(self, data: bytes) -> None:
        """Send bytes, unless the connection is swallowed or closing."""
        if self.is_open():
            self.transport.write(data)

    def swallow(self) -> None:
        """Become a black hole: TCP stays, nothing is read into account, nothing is sent."""
        self.swallowing = True
        if self._watch:
            self._watch.cancel()

    def pay(self) -> None:
        """Send the publisher what it is owed."""
        if self.owed and not self.broker.withhold_publisher_acks:
            self.write(b"".join(self.owed))
            self.owed.clear()

    def disconnect(self, code: mqtt5.DisconnectReasonCode) -> None:
        """DISCONNECT with a reason, and close."""
        self.write(mqtt5.DisconnectPacket(reason_code=code).write())
        self.transport.close()

    def pump(self) -> None:
        """Send what the window has room for: first what is owed from an earlier connection, then the queue."""
        session = self.session
        if session is None or not self.is_open():
            return
        out: list[bytes] = []
        while session.resend and len(session.inflight) < self.window:
            packet_id, message = session.resend.popleft()
            session.inflight[packet_id] = message
            out.append(message.packet(packet_id, dup=self.broker.redeliver_with_dup))
        while session.queue and (session.queue[0].qos == 0 or len(session.inflight) < self.window):
            message = session.queue.popleft()
            if message.qos == 0:
                out.append(message.packet(None))
                continue
            packet_id = session.take_id()
            session.inflight[packet_id] = message
            out.append(message.packet(packet_id))
        if out:
            self.write(b"".join(out))

    def _rewind_keep_alive(self) -> None:
        if self._watch:
            self._watch.cancel()
            self._watch = None
        if not self.is_open():
            return
        seconds = (self.broker.server_keep_alive or (self.connect.keep_alive if self.connect else 0)) * 1.5
        if seconds:
            loop = asyncio.get_running_loop()
            self._watch = loop.call_later(seconds, self.disconnect, mqtt5.DisconnectReasonCode.KEEP_ALIVE_TIMEOUT)
