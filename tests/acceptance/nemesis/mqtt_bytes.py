"""The server's side of MQTT 5 and 3.1.1 on plain bytes.

It is written from the specifications and shares nothing with the codec that the product uses: a fault of that codec must not hide
itself by being on both sides. `level` is the protocol level of CONNECT: 5 for MQTT 5, 4 for MQTT 3.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

MQTT_5 = 5
MAX_PACKET_ID = 65535


class Kind(IntEnum):
    """Control packet types (MQTT 5, section 2.1.2)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class Malformed(Exception):
    """The bytes are not the packet that they begin as."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One control packet: its type, the four flag bits, and what follows the fixed header."""

    kind: int
    flags: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    """The parts of a CONNECT that a broker acts on."""

    level: int
    client_id: str
    clean_start: bool
    receive_maximum: int
    session_expiry: int


@dataclass(frozen=True, slots=True)
class Publish:
    """A PUBLISH of a client."""

    topic: str
    payload: bytes
    qos: int
    packet_id: int


def take_packets(buffer: bytearray) -> list[Packet]:
    """Remove the complete packets from the beginning of `buffer` and return them. Raises Malformed."""
    found: list[Packet] = []
    while (header := _fixed_header(buffer)) is not None:
        start, length = header
        if len(buffer) < start + length:
            break
        found.append(Packet(buffer[0] >> 4, buffer[0] & 0x0F, bytes(buffer[start : start + length])))
        del buffer[: start + length]
    return found


def _fixed_header(buffer: bytearray) -> tuple[int, int] | None:
    """Return where the body begins and how long it is; None while the header is not complete."""
    length = 0
    for position in range(1, 5):
        if position >= len(buffer):
            return None
        length |= (buffer[position] & 0x7F) << (7 * (position - 1))
        if not buffer[position] & 0x80:
            return position + 1, length
    raise Malformed("a remaining length of more than four bytes")


class _Reader:
    """Reads the fields of one body from left to right. Raises Malformed at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise Malformed("a field reaches beyond its packet")
        taken, self._at = self._data[self._at : end], end
        return taken

    def integer(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def varint(self) -> int:
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.integer(1)
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
        raise Malformed("a variable byte integer of more than four bytes")

    def binary(self) -> bytes:
        return self.take(self.integer(2))

    def text(self) -> str:
        try:
            return self.binary().decode()
        except UnicodeDecodeError as error:
            raise Malformed("text that is not UTF-8") from error

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def properties(self) -> dict[int, int]:
        """Return the integer properties by identifier; the others are skipped (section 2.2.2.2)."""
        block = _Reader(self.take(self.varint()))
        found: dict[int, int] = {}
        while block.more:
            identifier = block.varint()
            if identifier in _INTEGERS:
                found[identifier] = block.integer(_INTEGERS[identifier])
            elif identifier == _SUBSCRIPTION_IDENTIFIER:
                found[identifier] = block.varint()
            elif identifier == _USER_PROPERTY:
                block.binary()
                block.binary()
            elif identifier in _TEXTS:
                block.binary()
            else:
                raise Malformed(f"property {identifier:#x} does not exist")
        return found


_INTEGERS = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), 1),
    **dict.fromkeys((0x13, 0x21, 0x22, 0x23), 2),
    **dict.fromkeys((0x02, 0x11, 0x18, 0x27), 4),
}
_TEXTS = frozenset({0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F})
_SUBSCRIPTION_IDENTIFIER = 0x0B
_USER_PROPERTY = 0x26
_SESSION_EXPIRY = 0x11
_RECEIVE_MAXIMUM = 0x21


def read_connect(body: bytes) -> Connect:
    """Read a CONNECT. Raises Malformed."""
    reader = _Reader(body)
    if reader.text() != "MQTT":
        raise Malformed("not the protocol name MQTT")
    level, flags = reader.integer(1), reader.integer(1)
    reader.integer(2)  # keep-alive: this broker never ends a silent connection
    properties = reader.properties() if level == MQTT_5 else {}
    clean = bool(flags & 0x02)
    lasting = 0 if level == MQTT_5 or clean else 0xFFFFFFFF  # 3.1.1 knows only clean or for ever
    return Connect(
        level,
        reader.text(),
        clean,
        properties.get(_RECEIVE_MAXIMUM, MAX_PACKET_ID),
        properties.get(_SESSION_EXPIRY, lasting),
    )


def read_subscribe(body: bytes, level: int) -> tuple[int, list[tuple[str, int]]]:
    """Return the packet id, and each topic filter with the QoS that it asks for. Raises Malformed."""
    reader = _Reader(body)
    packet_id = reader.integer(2)
    if level == MQTT_5:
        reader.properties()
    filters: list[tuple[str, int]] = []
    while reader.more:
        filters.append((reader.text(), reader.integer(1) & 0x03))
    return packet_id, filters


def read_unsubscribe(body: bytes, level: int) -> tuple[int, list[str]]:
    """Return the packet id and the topic filters. Raises Malformed."""
    reader = _Reader(body)
    packet_id = reader.integer(2)
    if level == MQTT_5:
        reader.properties()
    filters: list[str] = []
    while reader.more:
        filters.append(reader.text())
    return packet_id, filters


def read_publish(packet: Packet, level: int) -> Publish:
    """Read a PUBLISH. Raises Malformed."""
    reader = _Reader(packet.body)
    qos = packet.flags >> 1 & 0x03
    topic = reader.text()
    packet_id = reader.integer(2) if qos else 0
    if level == MQTT_5:
        reader.properties()
    return Publish(topic, reader.rest(), qos, packet_id)


def read_puback(body: bytes, level: int) -> tuple[int, int]:
    """Return the packet id and the reason code, 0 where none is sent (section 3.4.2.1). Raises Malformed."""
    reader = _Reader(body)
    packet_id = reader.integer(2)
    return packet_id, reader.integer(1) if level == MQTT_5 and reader.more else 0


def read_disconnect(body: bytes, level: int) -> int | None:
    """Return the session expiry that a DISCONNECT states, None where it states none. Raises Malformed."""
    reader = _Reader(body)
    if level != MQTT_5 or not reader.more:
        return None
    reader.integer(1)
    return reader.properties().get(_SESSION_EXPIRY) if reader.more else None


def connack(level: int, *, session_present: bool, receive_maximum: int) -> bytes:
    """Build a CONNACK that accepts."""
    properties = b""
    if level == MQTT_5:
        stated = b"\x21" + receive_maximum.to_bytes(2, "big") if receive_maximum < MAX_PACKET_ID else b""
        properties = _varint(len(stated)) + stated
    return _packet(Kind.CONNACK << 4, bytes([session_present, 0]) + properties)


def suback(level: int, packet_id: int, codes: list[int]) -> bytes:
    """Build a SUBACK."""
    return _packet(Kind.SUBACK << 4, packet_id.to_bytes(2, "big") + _no_properties(level) + bytes(codes))


def unsuback(level: int, packet_id: int, count: int) -> bytes:
    """Build an UNSUBACK; in MQTT 3.1.1 it has no codes."""
    codes = bytes(count) if level == MQTT_5 else b""
    return _packet(Kind.UNSUBACK << 4, packet_id.to_bytes(2, "big") + _no_properties(level) + codes)


def publish(level: int, topic: str, payload: bytes, packet_id: int | None, *, dup: bool = False) -> bytes:
    """Build a PUBLISH: QoS 1 with a packet id, QoS 0 without."""
    name = topic.encode()
    number = packet_id.to_bytes(2, "big") if packet_id is not None else b""
    flags = (0x02 if packet_id is not None else 0) | (0x08 if dup else 0)
    return _packet(
        Kind.PUBLISH << 4 | flags, len(name).to_bytes(2, "big") + name + number + _no_properties(level) + payload
    )


def puback(packet_id: int) -> bytes:
    """Build a PUBACK of success."""
    return _packet(Kind.PUBACK << 4, packet_id.to_bytes(2, "big"))


def pingresp() -> bytes:
    """Build a PINGRESP."""
    return _packet(Kind.PINGRESP << 4, b"")


def disconnect(reason: int) -> bytes:
    """Build a DISCONNECT of MQTT 5."""
    return _packet(Kind.DISCONNECT << 4, bytes([reason]))


def _no_properties(level: int) -> bytes:
    return b"\x00" if level == MQTT_5 else b""


def _packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)
