"""Frames that the codec refuses, taken apart by hand as far as a dead letter needs it.

A PUBLISH whose topic or properties are not UTF-8 is a malformed packet, for which a client should close the connection
([MQTT-1.5.4-1], section 4.13). But some brokers pass such a topic on, and send the message again on every new connection: then one
bad device would stop ingestion for good. So we read what is there, park it, and acknowledge it.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from mqtt5 import Packet

_PUBLISH = 3


class BrokenPublish(NamedTuple):
    """A PUBLISH that is not MQTT, but has an end and an id."""

    topic: str
    """With what is not UTF-8 as escapes."""
    payload: bytes
    packet_id: int | None
    """None for QoS 0."""
    duplicate: bool
    fault: str
    """What the codec said."""


Received: TypeAlias = Packet | BrokenPublish


def frame_length(data: memoryview) -> int | None:
    """Bytes of the first packet in `data` (section 2.1), None when its fixed header has not come whole. Raises ValueError."""
    remaining = 0
    for place in range(1, 5):
        if place >= len(data):
            return None
        remaining |= (data[place] & 0x7F) << 7 * (place - 1)
        if data[place] < 0x80:
            return place + 1 + remaining
    raise ValueError("the remaining length has more than four bytes")


def broken_publish(frame: memoryview, fault: str) -> BrokenPublish | None:
    """What can be read of a whole PUBLISH (section 3.3) that the codec refused; None when it is none or makes no sense."""
    kind, qos, duplicate = frame[0] >> 4, frame[0] >> 1 & 3, bool(frame[0] & 8)
    if kind != _PUBLISH or qos > 1:
        return None
    body = bytes(frame[next(place for place in range(1, 5) if frame[place] < 0x80) + 1 :])
    start = 2 + int.from_bytes(body[:2])
    rest = start + (2 if qos else 0)
    if len(body) < rest:
        return None
    packet_id = int.from_bytes(body[start:rest]) if qos else None
    if packet_id == 0:
        return None
    topic = body[2:start].decode(errors="backslashreplace")
    return BrokenPublish(topic, _without_properties(body[rest:]), packet_id, duplicate, fault)


def _without_properties(data: bytes) -> bytes:
    """The payload behind the properties; all of it when their length makes no sense."""
    length = 0
    for place in range(min(4, len(data))):
        length |= (data[place] & 0x7F) << 7 * place
        if data[place] < 0x80:
            return data[place + 1 + length :] if place + 1 + length <= len(data) else data
    return data
