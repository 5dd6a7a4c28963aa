"""Conversion of packets to deliveries.

Each PUBLISH gets its token from the link's ledger. Types of mqtt5 go no further than this module.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from mqtt5 import PublishPacket, SubAckPacket, UnsubAckPacket

from sensorsync.mqtt.client.broken_packets import BrokenPublish, ReceivedPacket
from sensorsync.pipeline.contract import AckToken, Delivery
from sensorsync.pipeline.counters import PipelineCounters
from sensorsync.pipeline.ledger import AckLedger

MAX_PROPERTIES_SIZE = 8 * 1024
"""Largest size in bytes of the properties that are kept with a message. 2 MiB of properties can be 400,000 empty pairs, which
take 30 times that in memory.
"""
_PAIR_OVERHEAD = 64
"""Bytes that a user property counts in addition to its texts."""


def deliveries_from_packets(
    packets: Sequence[ReceivedPacket], ledger: AckLedger, counters: PipelineCounters
) -> tuple[list[Delivery], ReceivedPacket | None]:
    """Return the deliveries among `packets` in order of arrival, and the packet that may answer a request.

    We make one request at a time. Its answer is the first SUBACK or UNSUBACK, whatever else arrived in the same read.
    """
    now = time.time()
    deliveries: list[Delivery] = []
    answer: ReceivedPacket | None = None
    for packet in packets:
        if isinstance(packet, PublishPacket):
            fault, properties = None, _dead_letter_properties(packet)
        elif isinstance(packet, BrokenPublish):
            fault, properties = packet.error, None
        else:
            answer = answer if isinstance(answer, SubAckPacket | UnsubAckPacket) else packet
            continue
        topic, payload, packet_id = packet.topic, packet.payload, packet.packet_id
        token: AckToken | None = None
        qos = 0
        if packet_id is not None:
            qos = 1
            if ledger.is_resend_of_unsettled(packet_id, topic, payload):
                counters.resends += 1
                continue
            token = ledger.issue_token(packet_id, packet.duplicate, topic, payload)
        deliveries.append(Delivery(topic, payload, qos, now, token, properties, fault))
    return deliveries, answer


def _dead_letter_properties(packet: PublishPacket) -> dict[str, object] | None:
    """Return the MQTT 5 properties that a dead letter should keep, or None. Most messages have none."""
    user, content_type, response, correlation = (
        packet.user_properties,
        packet.content_type,
        packet.response_topic,
        packet.correlation_data,
    )
    if not (user or content_type or response or correlation or packet.retain):
        return None
    found: dict[str, object] = {}
    size = sum(len(name) + len(value) + _PAIR_OVERHEAD for name, value in user)
    size += len(content_type or "") + len(response or "") + len(correlation or b"")
    if size > MAX_PROPERTIES_SIZE:
        return {"left_out": f"the properties are more than the {MAX_PROPERTIES_SIZE} bytes that are kept"}
    if user:
        found["user_properties"] = [list(pair) for pair in user]
    if content_type:
        found["content_type"] = content_type
    if response:
        found["response_topic"] = response
    if correlation:
        found["correlation_data"] = correlation.hex()
    if packet.retain:
        found["retain"] = True
    return found
