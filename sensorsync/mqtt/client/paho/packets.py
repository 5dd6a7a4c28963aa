"""The arguments of paho's callbacks as the packets that the rest of sensorsync uses. These functions do no I/O.

A value that MQTT does not have raises ValueError, because the packet was malformed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mqtt5 import (
    ConnAckPacket,
    ConnAckReasonCode,
    DisconnectPacket,
    DisconnectReasonCode,
    PubAckPacket,
    PubAckReasonCode,
    PublishPacket,
    QoS,
    SubAckPacket,
    SubAckReasonCode,
    UnsubAckPacket,
    UnsubAckReasonCode,
)
from paho.mqtt.client import ConnectFlags, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from sensorsync.mqtt.client.broken_packets import BrokenPublish, ReceivedPacket
from sensorsync.mqtt.client.options import ConnectOptions

_MAX_PACKET_SIZE = 0xFFFFFFF
"""Largest Maximum Packet Size that paho can state."""


def connect_properties(options: ConnectOptions) -> Properties:
    """Return the properties that CONNECT has in MQTT 5 and not in 3.1.1 (section 3.1.2.11)."""
    found = Properties(PacketTypes.CONNECT)
    found.SessionExpiryInterval = options.session_expiry_seconds
    found.ReceiveMaximum = options.receive_maximum
    if options.max_packet_size is not None:
        found.MaximumPacketSize = min(_MAX_PACKET_SIZE, options.max_packet_size)
    return found


def disconnect_properties(*, end_session: bool) -> Properties | None:
    """Return the properties of DISCONNECT. A Session Expiry Interval of 0 ends the session ([MQTT-3.14.2-2])."""
    if not end_session:
        return None
    found = Properties(PacketTypes.DISCONNECT)
    found.SessionExpiryInterval = 0
    return found


def connack(flags: ConnectFlags, reason: ReasonCode, properties: Properties | None) -> ConnAckPacket:
    """Translate CONNACK. paho has already translated the codes of MQTT 3.1.1."""
    return ConnAckPacket(
        session_present=flags.session_present,
        reason_code=ConnAckReasonCode(reason.value),
        session_expiry_interval=_property(properties, "SessionExpiryInterval"),
        assigned_client_id=_property(properties, "AssignedClientIdentifier"),
        server_keep_alive=_property(properties, "ServerKeepAlive"),
        server_reference=_property(properties, "ServerReference"),
        reason_str=_property(properties, "ReasonString"),
        receive_max=_property(properties, "ReceiveMaximum", 65535),
        topic_alias_max=_property(properties, "TopicAliasMaximum", 0),
        max_qos=QoS(_property(properties, "MaximumQoS", 2)),
        retain_available=bool(_property(properties, "RetainAvailable", 1)),
        max_packet_size=_property(properties, "MaximumPacketSize"),
        wildcard_subscription_available=bool(_property(properties, "WildcardSubscriptionAvailable", 1)),
        subscription_id_available=bool(_property(properties, "SubscriptionIdentifierAvailable", 1)),
        shared_subscription_available=bool(_property(properties, "SharedSubscriptionAvailable", 1)),
    )


def publish(message: MQTTMessage) -> ReceivedPacket:
    """Translate PUBLISH. Packet id 0 raises ValueError.

    A PUBLISH with a topic that MQTT does not allow becomes a BrokenPublish, as in the native engine.
    """
    packet_id = message.mid if message.qos else None
    if packet_id == 0:
        raise ValueError("packet id 0")
    payload, properties = bytes(message.payload), message.properties
    try:
        return PublishPacket(
            message.topic,
            payload,
            qos=QoS(message.qos),
            retain=bool(message.retain),
            packet_id=packet_id,
            duplicate=bool(message.dup),
            content_type=_property(properties, "ContentType"),
            response_topic=_property(properties, "ResponseTopic"),
            correlation_data=_property(properties, "CorrelationData"),
            user_properties=[(name, value) for name, value in _property(properties, "UserProperty", ())],
        )
    except UnicodeDecodeError as error:
        legible = error.object.decode(errors="backslashreplace")
        return BrokenPublish(legible, payload, packet_id, message.dup, f"the topic is not UTF-8: {error}")
    except ValueError as error:  # a wildcard in a topic
        return BrokenPublish(message.topic, payload, packet_id, message.dup, str(error))


def puback(packet_id: int, reason: ReasonCode) -> PubAckPacket:
    """Translate PUBACK."""
    return PubAckPacket(packet_id, reason_code=PubAckReasonCode(reason.value))


def suback(packet_id: int, reasons: Sequence[ReasonCode]) -> SubAckPacket:
    """Translate SUBACK."""
    return SubAckPacket(packet_id, [SubAckReasonCode(reason.value) for reason in reasons])


def unsuback(packet_id: int, reasons: Sequence[ReasonCode]) -> UnsubAckPacket:
    """Translate UNSUBACK, which has no reason codes in MQTT 3.1.1."""
    return UnsubAckPacket(packet_id, [UnsubAckReasonCode(reason.value) for reason in reasons])


def disconnect(reason: ReasonCode, properties: Properties | None) -> DisconnectPacket:
    """Translate a DISCONNECT of the broker, which MQTT 3.1.1 does not have."""
    return DisconnectPacket(
        reason_code=DisconnectReasonCode(reason.value),
        reason_str=_property(properties, "ReasonString"),
        server_reference=_property(properties, "ServerReference"),
    )


def _property(properties: Properties | None, name: str, default: Any = None) -> Any:
    return getattr(properties, name, default)
