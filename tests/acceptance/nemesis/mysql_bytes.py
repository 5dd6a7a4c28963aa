"""As much of MySQL's client/server protocol as it takes to know where a connection stands (MySQL Source Documentation)."""

from __future__ import annotations

import asyncio
import re

from tests.acceptance.nemesis.injections import Phase

OK, ERROR, END = 0x00, 0xFF, 0xFE
COM_QUIT, COM_QUERY, COM_PING = 0x01, 0x03, 0x0E
_CLIENT_SSL = 0x0800
_WORD = re.compile(rb"\s*(?:/\*.*?\*/\s*)*([A-Za-z]+)", re.DOTALL)

Payload = tuple[int, bytes]
"""Sequence number and content of one packet."""


async def read_packet(reader: asyncio.StreamReader) -> Payload:
    """Read one packet. Raises IncompleteReadError or OSError when the connection ends."""
    header = await reader.readexactly(4)
    return header[3], await reader.readexactly(int.from_bytes(header[:3], "little"))


def packet(sequence: int, payload: bytes) -> bytes:
    """Return the packet on the wire."""
    return len(payload).to_bytes(3, "little") + bytes([sequence & 0xFF]) + payload


def error_packet(sequence: int, errno: int, text: str, *, handshake: bool = False) -> bytes:
    """Build an ERR packet; before the handshake it has no SQL state."""
    state = b"" if handshake else b"#HY000"
    return packet(sequence, b"\xff" + errno.to_bytes(2, "little") + state + text.encode())


def without_tls(greeting: bytes) -> bytes:
    """Return the server's greeting without the offer of TLS, so that the client stays readable."""
    changed = bytearray(greeting)
    capabilities = greeting.index(b"\0", 1) + 1 + 4 + 8 + 1
    low = int.from_bytes(greeting[capabilities : capabilities + 2], "little") & ~_CLIENT_SSL
    changed[capabilities : capabilities + 2] = low.to_bytes(2, "little")
    return bytes(changed)


def is_result_set(payload: bytes) -> bool:
    """Whether the first packet of an answer announces rows."""
    return payload[0] not in {OK, ERROR}


def is_end(payload: bytes) -> bool:
    """Whether a packet is the EOF that ends columns or rows."""
    return payload[0] == END and len(payload) < 9


class Statements:
    """Follows the statements of one connection, and whether a transaction is open."""

    def __init__(self) -> None:
        self._in_transaction = False

    def phase(self, command: bytes) -> Phase:
        """Return the phase that a command belongs to, and remember what it does to the transaction."""
        if command[0] != COM_QUERY:
            return Phase.OTHER
        found = _WORD.match(command, 1)
        word = found[1].upper() if found else b""
        if word in {b"BEGIN", b"START"}:
            self._in_transaction = True
            return Phase.BEGIN
        if word in {b"COMMIT", b"ROLLBACK"}:
            self._in_transaction = False
            return Phase.COMMIT if word == b"COMMIT" else Phase.OTHER
        if word in {b"INSERT", b"REPLACE", b"UPDATE"}:
            return Phase.INSERT if self._in_transaction else Phase.COMMIT
        return Phase.SETUP if word in {b"SET", b"SELECT"} else Phase.OTHER
