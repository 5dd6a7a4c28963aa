"""A listener that is no MQTT 5 broker: it says one thing to whoever connects, or nothing."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass(eq=False)
class Answering:
    """Listens on 127.0.0.1:`port`. Used on a loop or as `InThread(Answering(...))`."""

    answer: bytes = b""
    """Sent after the first bytes of the client."""
    hang_up: bool = True
    """Close after that; else keep the connection and stay silent."""
    only_after: bytes = b""
    """Answer only to a client whose first bytes hold this, and hang up on others."""
    ssl: ssl.SSLContext | None = None
    port: int = 0
    received: bytearray = field(default_factory=bytearray)
    """All that clients have sent, over all connections."""

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self.ssl)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and hang up."""
        if self._server:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(OSError, asyncio.CancelledError):
            try:
                await self._talk(reader, writer)
            finally:
                writer.transport.abort()
                self._tasks.discard(task)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(4096)
        self.received += first
        if self.only_after in first:
            writer.write(self.answer)
            await writer.drain()
        elif self.only_after:
            return
        if self.hang_up:
            writer.write_eof() if writer.can_write_eof() else None
            return
        while data := await reader.read(4096):
            self.received += data
