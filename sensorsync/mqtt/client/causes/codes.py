"""The reason codes that no other part of the table explains (MQTT 5.0, sections 2.4, 3.2.2.2 and 3.14.2.1)."""

from __future__ import annotations

from typing import Final

from sensorsync.mqtt.client.causes.cause import Cause, Chapter


def _code(code: int, key: str, cause: str, hint: str | None, *, lasting: bool) -> Cause:
    return Cause(key, Chapter.CODES, cause, hint, lasting=lasting, code=code)


CODES: Final = (
    _code(0x80, "unspecified_error", "unspecified error", "look into the broker's log", lasting=False),
    _code(0x81, "malformed_packet", "malformed packet", "is this port really an MQTT 5 listener?", lasting=True),
    _code(0x82, "protocol_error", "protocol error", "look into the broker's log", lasting=True),
    _code(
        0x83,
        "implementation_specific_error",
        "the broker does not accept this request",
        "look into the broker's log",
        lasting=True,
    ),
    _code(0x88, "server_unavailable", "server unavailable", None, lasting=False),
    _code(0x89, "server_busy", "server busy", None, lasting=False),
    _code(0x8B, "server_shutting_down", "the server is shutting down", None, lasting=False),
    _code(
        0x8D, "keep_alive_timeout", "keep-alive time-out", "raise mqtt.keep_alive if the network is slow", lasting=False
    ),
    _code(0x8F, "topic_filter_invalid", "topic filter invalid", "check mqtt.topics", lasting=True),
    _code(0x90, "topic_name_invalid", "topic name invalid", "check the topic", lasting=True),
    _code(
        0x93,
        "receive_maximum_exceeded",
        "receive maximum exceeded",
        "this is a fault of sensorsync or of the broker: please report it",
        lasting=False,
    ),
    _code(0x94, "topic_alias_invalid", "topic alias invalid", None, lasting=False),
    _code(0x95, "packet_too_large", "packet too large", "raise the broker's packet size limit", lasting=False),
    _code(
        0x96,
        "message_rate_too_high",
        "message rate too high",
        "the broker throttles this client; see your plan's quota",
        lasting=False,
    ),
    _code(0x97, "quota_exceeded", "quota exceeded", "see the broker's limits or your plan's quota", lasting=False),
    _code(
        0x98,
        "administrative_action",
        "administrative action",
        "an administrator closed the connection",
        lasting=False,
    ),
    _code(0x99, "payload_format_invalid", "payload format invalid", None, lasting=False),
    _code(0x9A, "retain_not_supported", "retain not supported", None, lasting=True),
    _code(0x9C, "use_another_server", "use another server", "change mqtt.host", lasting=True),
    _code(0x9D, "server_moved", "server moved", "change mqtt.host", lasting=True),
    _code(
        0x9F,
        "connection_rate_exceeded",
        "connection rate exceeded",
        "the broker throttles new connections; see your plan's quota",
        lasting=False,
    ),
    _code(0xA0, "maximum_connect_time", "maximum connect time", None, lasting=False),
    _code(
        0xA1,
        "subscription_ids_not_supported",
        "subscription identifiers not supported",
        None,
        lasting=True,
    ),
)
