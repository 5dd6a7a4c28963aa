"""Reason codes that no other part of the table explains (MQTT 5.0, sections 2.4, 3.2.2.2 and 3.14.2.1)."""

from __future__ import annotations

from typing import Final

from sensorsync.mqtt.client.causes.cause import Cause, GuideSection


def _reason_code_cause(code: int, key: str, description: str, hint: str | None, *, permanent: bool) -> Cause:
    return Cause(key, GuideSection.CODES, description, hint, permanent=permanent, reason_code=code)


REASON_CODES: Final = (
    _reason_code_cause(0x80, "unspecified_error", "unspecified error", "look into the broker's log", permanent=False),
    _reason_code_cause(
        0x81, "malformed_packet", "malformed packet", "is this port really an MQTT 5 listener?", permanent=True
    ),
    _reason_code_cause(0x82, "protocol_error", "protocol error", "look into the broker's log", permanent=True),
    _reason_code_cause(
        0x83,
        "implementation_specific_error",
        "the broker does not accept this request",
        "look into the broker's log",
        permanent=True,
    ),
    _reason_code_cause(0x88, "server_unavailable", "server unavailable", None, permanent=False),
    _reason_code_cause(0x89, "server_busy", "server busy", None, permanent=False),
    _reason_code_cause(0x8B, "server_shutting_down", "the server is shutting down", None, permanent=False),
    _reason_code_cause(
        0x8D,
        "keep_alive_timeout",
        "keep-alive time-out",
        "raise mqtt.keep_alive if the network is slow",
        permanent=False,
    ),
    _reason_code_cause(0x8F, "topic_filter_invalid", "topic filter invalid", "check mqtt.topics", permanent=True),
    _reason_code_cause(0x90, "topic_name_invalid", "topic name invalid", "check the topic", permanent=True),
    _reason_code_cause(
        0x93,
        "receive_maximum_exceeded",
        "receive maximum exceeded",
        "this is a fault of sensorsync or of the broker: please report it",
        permanent=False,
    ),
    _reason_code_cause(0x94, "topic_alias_invalid", "topic alias invalid", None, permanent=False),
    _reason_code_cause(
        0x95, "packet_too_large", "packet too large", "raise the broker's packet size limit", permanent=False
    ),
    _reason_code_cause(
        0x96,
        "message_rate_too_high",
        "message rate too high",
        "the broker throttles this client; see your plan's quota",
        permanent=False,
    ),
    _reason_code_cause(
        0x97, "quota_exceeded", "quota exceeded", "see the broker's limits or your plan's quota", permanent=False
    ),
    _reason_code_cause(
        0x98,
        "administrative_action",
        "administrative action",
        "an administrator closed the connection",
        permanent=False,
    ),
    _reason_code_cause(0x99, "payload_format_invalid", "payload format invalid", None, permanent=False),
    _reason_code_cause(0x9A, "retain_not_supported", "retain not supported", None, permanent=True),
    _reason_code_cause(0x9C, "use_another_server", "use another server", "change mqtt.host", permanent=True),
    _reason_code_cause(0x9D, "server_moved", "server moved", "change mqtt.host", permanent=True),
    _reason_code_cause(
        0x9F,
        "connection_rate_exceeded",
        "connection rate exceeded",
        "the broker throttles new connections; see your plan's quota",
        permanent=False,
    ),
    _reason_code_cause(0xA0, "maximum_connect_time", "maximum connect time", None, permanent=False),
    _reason_code_cause(
        0xA1,
        "subscription_ids_not_supported",
        "subscription identifiers not supported",
        None,
        permanent=True,
    ),
)
