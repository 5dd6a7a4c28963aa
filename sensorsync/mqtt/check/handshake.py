"""A TLS handshake that records its progress, and a connection without MQTT."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from sensorsync.mqtt.client.options import ConnectOptions

_CHUNK = 16 * 1024
_FIRST_BYTES = 32


@dataclass(slots=True)
class TlsHandshake:
    """One handshake. After it either `ssl_object` or `error` is set, or neither when the peer just closed the connection."""

    context: ssl.SSLContext
    server_name: str
    ssl_object: ssl.SSLObject | None = None
    """The TLS connection of a handshake that succeeded."""
    error: OSError | None = None
    """The error of TLS or of the network that ended the handshake."""
    first_bytes: bytearray = field(default_factory=bytearray)
    """The peer's first bytes."""

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run the handshake until it succeeds or fails. A failure is stored in `error`."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = self.context.wrap_bio(incoming, outgoing, server_hostname=self.server_name)
        try:
            while self.error is None:
                with suppress(ssl.SSLWantReadError):
                    self._step(session)
                writer.write(outgoing.read())
                await writer.drain()
                if self.ssl_object is not None or self.error is not None:
                    return
                data = await reader.read(_CHUNK)
                if not data:
                    return
                self.first_bytes += data[: _FIRST_BYTES - len(self.first_bytes)]
                incoming.write(data)
        except OSError as error:
            self.error = error

    def _step(self, session: ssl.SSLObject) -> None:
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            raise
        except ssl.SSLError as error:
            self.error = error
        else:
            self.ssl_object = session


async def tls_handshake(options: ConnectOptions, context: ssl.SSLContext) -> TlsHandshake:
    """Complete a TLS handshake on a separate connection, and close it. Raises TimeoutError, and OSError when TCP fails."""
    shake = TlsHandshake(context, options.server_name or options.host)
    async with open_raw_connection(options) as (reader, writer), asyncio.timeout(options.connect_timeout):
        await shake.run(reader, writer)
    return shake


@asynccontextmanager
async def open_raw_connection(
    options: ConnectOptions, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection without MQTT, and close it after the block. Raises OSError, TimeoutError."""
    async with asyncio.timeout(options.connect_timeout):
        reader, writer = await asyncio.open_connection(
            options.host,
            options.port,
            ssl=context,
            server_hostname=(options.server_name or options.host) if context else None,
            happy_eyeballs_delay=options.happy_eyeballs_delay,
        )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
