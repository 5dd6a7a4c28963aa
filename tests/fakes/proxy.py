"""A TCP proxy that can delay, swallow and cut; and one that knows enough of MySQL's protocol to break a connection at its COMMIT."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from tests.fakes.listener import Listener, Talks

CHUNK = 1 << 16


@dataclass(eq=False)
class Link:
    """One client's connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    swallowed: bool = False
    """A black hole, for good: a stream that lost bytes can't be mended."""

    def cut(self) -> None:
        """Reset both sides."""
        for side in (self.client, self.server):
            side.transport.abort()


Hook = Callable[[Link, bytes], Awaitable[bytes]]


@dataclass(eq=False)
class TcpProxy:
    """Listens on 127.0.0.1:`port` and passes bytes to `host`:`target` and back. Used on a loop or as `InThread(TcpProxy(...))`."""

    target: int
    host: str = "127.0.0.1"
    delay_up: float = 0.0
    """Seconds by which bytes from the client are late (latency, not rate)."""
    delay_down: float = 0.0
    swallowing: bool = False
    """Connections made while this is true are black holes from their start."""
    refusing: bool = False
    """Connections made while this is true are reset at once."""
    port: int = 0
    links: list[Link] = field(default_factory=list)
    accepted: int = 0

    def __post_init__(self) -> None:
        self._talks = Talks(self._serve)
        self._listener = Listener(self._talks.protocol)

    async def start(self) -> None:
        """Listen; a second start after `stop` takes the same port."""
        self.port = await self._listener.start(self.port)

    async def stop(self) -> None:
        """Stop listening and cut everything."""
        await self._listener.stop()
        await self._talks.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def swallow(self) -> None:
        """Turn all connections, and those to come, into black holes: nothing passes, TCP stays up."""
        self.swallowing = True
        for link in self.links:
            link.swallowed = True

    def heal(self) -> None:
        """New connections pass again; those that were swallowed stay black."""
        self.swallowing = self.refusing = False

    def cut(self) -> None:
        """Reset all connections now."""
        for link in list(self.links):
            link.cut()

    async def upward(self, link: Link, data: bytes) -> bytes:
        """What becomes of bytes on their way to the server. For subclasses."""
        return data

    async def downward(self, link: Link, data: bytes) -> bytes:
        """What becomes of bytes on their way to the client. For subclasses."""
        return data

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refusing:
            return
        server_reader, server_writer = await asyncio.open_connection(self.host, self.target)
        link = Link(writer, server_writer, self.swallowing)
        self.links.append(link)
        try:
            await asyncio.gather(
                self._pass(link, reader, server_writer, self.upward, lambda: self.delay_up),
                self._pass(link, server_reader, writer, self.downward, lambda: self.delay_down),
            )
        finally:
            link.cut()
            self.links.remove(link)

    async def _pass(
        self,
        link: Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        hook: Hook,
        delay: Callable[[], float],
    ) -> None:
        """Copy one direction until its end; latency by a queue of (due, bytes), so that it does not limit the rate."""
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        courier = asyncio.create_task(self._deliver(link, late, writer, hook))
        loop = asyncio.get_running_loop()
        try:
            while data := await self._read(link, reader):
                late.put_nowait((loop.time() + delay(), data))
            if not link.swallowed:
                late.put_nowait((loop.time() + delay(), b""))
                await courier
        finally:
            courier.cancel()

    @staticmethod
    async def _read(link: Link, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(CHUNK)
        except OSError:
            if not link.swallowed:
                link.cut()
            return b""

    @staticmethod
    async def _deliver(
        link: Link, late: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, hook: Hook
    ) -> None:
        while True:
            due, data = await late.get()
            wait = due - asyncio.get_running_loop().time()
            if wait > 0:
                await asyncio.sleep(wait)
            if not data:
                if not link.swallowed and not writer.transport.is_closing():
                    with suppress(OSError):  # the other side has reset it
                        writer.write_eof()
                return
            data = await hook(link, data)
            if data and not link.swallowed and not writer.transport.is_closing():
                writer.write(data)


_OK_PACKET = b"\x07\x00\x00\x01" + b"\x00\x00\x00\x02\x00\x00\x00"
"""Packet number 1: no rows, autocommit, no warnings."""


class Fault(StrEnum):
    """What happens at a statement."""

    BEFORE = "before"
    """The connection breaks before the server gets it."""
    AFTER = "after"
    """The server gets it and answers; the connection breaks before the client has the answer."""
    HOLD = "hold"
    """It waits until `release()`."""
    SWALLOW = "swallow"
    """The connection is a black hole from here on: the server waits for the statement, the client for its answer."""


@dataclass(eq=False)
class MySqlProxy(TcpProxy):
    """Reads the client's COM_QUERY packets (MySQL protocol, no TLS, no compression) and can break the connection at one of them."""

    fault: Fault | None = None
    pattern: str = "COMMIT"
    """Regular expression for the beginning of the statements at which the fault happens; case is ignored."""
    times: int = 1
    """How many more statements it happens to."""
    set_replacement: str | None = None
    """SET statements are answered with OK and do not reach the server, as some proxies do; this one goes there instead of the
    first one of each connection. None: they pass."""
    queries: list[str] = field(default_factory=list)
    """The first 80 characters of every statement of every connection, in order."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._pending: dict[Link, bytearray] = {}
        self._unanswered: set[Link] = set()
        self._replaced: set[Link] = set()
        self._released = asyncio.Event()

    def break_at(self, fault: Fault, pattern: str = "COMMIT", times: int = 1) -> None:
        """Let `fault` happen at the next `times` statements that begin with `pattern`."""
        self.fault, self.pattern, self.times = fault, pattern, times
        self._released.clear()

    def release(self) -> None:
        """Let the statements go that are held, and hold no more."""
        self.fault = None
        self._released.set()

    async def upward(self, link: Link, data: bytes) -> bytes:
        for query in self._statements(link, data):
            self.queries.append(query)
            if self.set_replacement is not None and query.upper().startswith("SET "):
                return self._swallow_set(link, self.set_replacement)
            if self.fault is None or self.times <= 0 or not re.match(self.pattern, query, re.IGNORECASE):
                continue
            self.times -= 1
            if self.fault is Fault.HOLD:
                await self._released.wait()
            elif self.fault is Fault.BEFORE:
                link.cut()
                return b""
            elif self.fault is Fault.SWALLOW:
                link.swallowed = True
            else:
                self._unanswered.add(link)
        return data

    async def downward(self, link: Link, data: bytes) -> bytes:
        if link in self._unanswered:
            self._unanswered.discard(link)
            link.cut()
            return b""
        return data

    def _swallow_set(self, link: Link, replacement: str) -> bytes:
        """A client waits for the answer to a SET, so that nothing else comes with it."""
        if link in self._replaced or not replacement:
            link.client.write(_OK_PACKET)
            return b""
        self._replaced.add(link)
        statement = b"\x03" + replacement.encode()
        return len(statement).to_bytes(3, "little") + b"\x00" + statement

    def _statements(self, link: Link, data: bytes) -> list[str]:
        """The COM_QUERY packets that are complete: 3 bytes length, 1 byte number, 0x03, the statement."""
        pending = self._pending.setdefault(link, bytearray())
        pending += data
        found = []
        while len(pending) >= 4 and len(pending) >= (end := 4 + int.from_bytes(pending[:3], "little")):
            if pending[3] == 0 and pending[4:5] == b"\x03":
                found.append(bytes(pending[5 : min(end, 85)]).decode("utf-8", "replace"))
            del pending[:end]
        return found
