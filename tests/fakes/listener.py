"""Accepting connections so that none is left open at the end: `asyncio.Server` forgets those that it has only just accepted."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """`port = await listener.start(0)`; each connection gets a protocol of `make`."""

    def __init__(self, make: Callable[[], asyncio.BaseProtocol]) -> None:
        self._make = make
        self._context: ssl.SSLContext | None = None
        self._socket: socket.socket | None = None
        self._greetings: set[asyncio.Task[None]] = set()
        self._transports: list[asyncio.BaseTransport] = []

    async def start(self, port: int, context: ssl.SSLContext | None = None) -> int:
        """Listen on 127.0.0.1:`port`, 0 for any; returns the port. With a `context` each connection begins with a TLS handshake."""
        self._context = context
        listening = self._socket = socket.create_server(("127.0.0.1", port), backlog=100)
        listening.setblocking(False)
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)
        return int(listening.getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and reset all connections, those under way in a handshake, too."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        # Each greeting has to have begun, and its transport to know of its protocol: only then does cancelling it close the socket.
        for _ in range(2):
            await asyncio.sleep(0)
        for greeting in self._greetings:
            greeting.cancel()
        await asyncio.gather(*self._greetings, return_exceptions=True)
        for transport in self._transports:
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
        self._transports.clear()
        await asyncio.sleep(0)

    def _accept(self, listening: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = listening.accept()
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as asyncio's own servers do
            greeting = asyncio.get_running_loop().create_task(self._greet(connection))
            self._greetings.add(greeting)
            greeting.add_done_callback(self._greetings.discard)

    async def _greet(self, connection: socket.socket) -> None:
        with suppress(OSError):  # gone already, or no handshake
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                self._make, connection, ssl=self._context
            )
            self._transports.append(transport)


class Talks:
    """The conversations of a listener that uses streams: `Listener(talks.protocol)`, and `await talks.stop()` after the listener's."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._tasks: set[asyncio.Task[None]] = set()

    def protocol(self) -> asyncio.StreamReaderProtocol:
        """A protocol whose connection is talked to in a task."""
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), self._connected)

    async def stop(self) -> None:
        """Cancel all of them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def talk() -> None:
            with suppress(OSError):
                try:
                    await self._talk(reader, writer)
                finally:
                    writer.transport.abort()

        task = asyncio.get_running_loop().create_task(talk())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
