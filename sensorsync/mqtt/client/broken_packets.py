"""Frames that the codec does not get, taken apart by hand as far as a dead letter needs it: broken ones and huge ones.

A PUBLISH whose topic or properties are not UTF-8 is a malformed packet, for which a client should close the connection
([MQTT-1.5.4-1], section 4.13). But some brokers pass such a topic on, and send the message again on every new connection: then one
bad device would stop ingestion for good. So we read what is there, park it, and acknowledge it.

The same holds for a message that is too large to be kept in memory: to hang up would bring it back with every new connection.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple, TypeAlias

from mqtt5 import Packet

_PUBLISH = 3
MAX_PACKET = 2 * 1024 * 1024
"""Bytes of the largest packet that is kept whole. No reading is larger than a quarter of it; brokers let 1 MiB (EMQX) or 2 MB
(mosquitto 2.1) pass unless told otherwise, and MQTT itself 256 MiB (section 1.5.5). Each connection may hold one that is half there.
"""


class BrokenPublish(NamedTuple):
    """A PUBLISH that is not MQTT, or was too large, but has an end and an id."""

    topic: str
    """With what is not UTF-8 as escapes."""
    payload: bytes
    packet_id: int | None
    """None for QoS 0."""
    duplicate: bool
    error: str
    """What the codec said, or how large it was."""


ReceivedPacket: TypeAlias = Packet | BrokenPublish


def packet_length(data: memoryview) -> int | None:
    """Bytes of the first packet in `data` (section 2.1), None when its fixed header has not come whole. Raises ValueError."""
    remaining = 0
    for place in range(1, 5):
        if place >= len(data):
            return None
        remaining |= (data[place] & 0x7F) << 7 * (place - 1)
        if data[place] < 0x80:
            return place + 1 + remaining
    raise ValueError("the remaining length has more than four bytes")


class HugePublish:
    """A PUBLISH of more than MAX_PACKET bytes on its way in: its beginning is kept, of the rest only the digest.

    `length`: bytes of the whole packet. Raises ValueError when it is no PUBLISH: nothing else has a reason to be so large.
    """

    def __init__(self, first_byte: int, length: int) -> None:
        if first_byte >> 4 != _PUBLISH:
            raise ValueError(f"a packet of {length} bytes that is no message")
        self.bytes_missing = length
        """Bytes that are still to come."""
        self._length = length
        self._head = bytearray()
        self._digest = hashlib.sha256()
        self._parsed_head: BrokenPublish | None = None

    def feed(self, data: memoryview, packets: list[ReceivedPacket]) -> int:
        """Take in what of `data` belongs to it, so many bytes, and join `packets` when that is all of it.

        Raises ValueError as soon as it makes no sense.
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
    """What can be read of a whole PUBLISH (section 3.3) that the codec refused; None when it is none or makes no sense."""
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
    """The payload behind the properties; all of it when their length makes no sense."""
    length = 0
    for place in range(min(4, len(data))):
        length |= (data[place] & 0x7F) << 7 * place
        if data[place] < 0x80:
            return data[place + 1 + length :] if place + 1 + length <= len(data) else data
    return data
