"""A listener that is no MQTT 5 broker: it says one thing to whoever connects, or nothing."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field

from tests.fakes.listener import Listener, Talks


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
        self._talks = Talks(self._talk)
        self._listener = Listener(self._talks.protocol)

    async def start(self) -> None:
        """Listen."""
        self.port = await self._listener.start(self.port, self.ssl)

    async def stop(self) -> None:
        """Stop listening and hang up."""
        await self._listener.stop()
        await self._talks.stop()

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
