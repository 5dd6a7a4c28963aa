"""PUBLISH packets that the codec cannot read, because they are malformed or huge. They are parsed as far as a dead letter needs.

A PUBLISH whose topic or properties are not UTF-8 is a malformed packet, for which a client should close the connection
([MQTT-1.5.4-1], section 4.13). But some brokers forward such a topic, and send the message again on every new connection. One
faulty device would then stop ingestion for ever. Therefore the readable parts are parsed, and the message is parked and
acknowledged.

The same holds for a message that is too large to be kept in memory. If the connection were closed, the broker would send the
message again on every new one.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple, TypeAlias

from mqtt5 import Packet

_PUBLISH = 3
MAX_PACKET = 2 * 1024 * 1024
"""Size in bytes of the largest packet that is kept whole. No reading is larger than a quarter of it. Brokers accept up to 1 MiB
(EMQX) or 2 MB (mosquitto 2.1) unless they are configured otherwise, and MQTT itself allows 256 MiB (section 1.5.5). Each
connection may hold one packet of which only a part has arrived.
"""


class BrokenPublish(NamedTuple):
    """A PUBLISH that is malformed or too large, but whose end and packet id are known."""

    topic: str
    """The topic. Bytes that are not UTF-8 are escaped."""
    payload: bytes
    packet_id: int | None
    """None for QoS 0."""
    duplicate: bool
    error: str
    """The error of the codec, or a text with the size of the packet."""


ReceivedPacket: TypeAlias = Packet | BrokenPublish


def packet_length(data: memoryview) -> int | None:
    """Return the size in bytes of the first packet in `data` (section 2.1), or None while its fixed header is incomplete.

    Raises ValueError when the remaining length has more than four bytes.
    """
    remaining = 0
    for place in range(1, 5):
        if place >= len(data):
            return None
        remaining |= (data[place] & 0x7F) << 7 * (place - 1)
        if data[place] < 0x80:
            return place + 1 + remaining
    raise ValueError("the remaining length has more than four bytes")


class HugePublish:
    """A PUBLISH of more than MAX_PACKET bytes that is being received. Only its beginning and a digest of its payload are kept.

    `length` is the size in bytes of the whole packet. Raises ValueError when the packet is not a PUBLISH, because no other packet
    has a reason to be that large.
    """

    def __init__(self, first_byte: int, length: int) -> None:
        if first_byte >> 4 != _PUBLISH:
            raise ValueError(f"a packet of {length} bytes that is no message")
        self.bytes_missing = length
        """Number of bytes that are still to come."""
        self._length = length
        self._head = bytearray()
        self._digest = hashlib.sha256()
        self._parsed_head: BrokenPublish | None = None

    def feed(self, data: memoryview, packets: list[ReceivedPacket]) -> int:
        """Consume the bytes of `data` that belong to this packet, and return their number.

        The packet is appended to `packets` once it is complete. Raises ValueError as soon as it makes no sense.
        """
        data = data[: self.bytes_missing]
        self.bytes_missing -= len(data)
        room = MAX_PACKET - len(self._head)
        self._head += data[:room]
        if room and len(self._head) == MAX_PACKET:
            self._parsed_head = parse_broken_publish(memoryview(self._head), "")
            if self._parsed_head is None:
                raise ValueError(f"a message of {self._length} bytes that makes no sense")
            self._digest.update(self._parsed_head.payload)
        self._digest.update(data[room:])
        if self._parsed_head is not None and not self.bytes_missing:
            packets.append(self._parsed_head._replace(error=self._error_text()))
        return len(data)

    def _error_text(self) -> str:
        return (
            f"the packet has {self._length} bytes, of which only the first {MAX_PACKET} are kept; SHA-256 of the whole payload:"
            f" {self._digest.hexdigest()}"
        )


def parse_broken_publish(packet: memoryview, error: str) -> BrokenPublish | None:
    """Return the readable parts of a whole PUBLISH (section 3.3) that the codec refused.

    Returns None when the packet is not a PUBLISH with QoS 0 or 1, or when it makes no sense.
    """
    kind, qos, duplicate = packet[0] >> 4, packet[0] >> 1 & 3, bool(packet[0] & 8)
    if kind != _PUBLISH or qos > 1:
        return None
    body = bytes(packet[next(place for place in range(1, 5) if packet[place] < 0x80) + 1 :])
    start = 2 + int.from_bytes(body[:2])
    rest = start + (2 if qos else 0)
    if len(body) < rest:
        return None
    packet_id = int.from_bytes(body[start:rest]) if qos else None
    if packet_id == 0:
        return None
    topic = body[2:start].decode(errors="backslashreplace")
    return BrokenPublish(topic, _skip_properties(body[rest:]), packet_id, duplicate, error)


def _skip_properties(data: bytes) -> bytes:
    """Return the payload that follows the properties, or all of `data` when the length of the properties makes no sense."""
    length = 0
    for place in range(min(4, len(data))):
        length |= (data[place] & 0x7F) << 7 * place
        if data[place] < 0x80:
            return data[place + 1 + length :] if place + 1 + length <= len(data) else data
    return data
