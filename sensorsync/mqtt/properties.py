"""Which MQTT 5 properties of a message are worth keeping with its dead letter."""

from __future__ import annotations

from mqtt5 import PublishPacket


def kept_properties(packet: PublishPacket) -> dict[str, object] | None:
    """The MQTT 5 properties that a dead letter should keep; mostly there are none."""
    user, content_type, response, correlation = (
        packet.user_properties,
        packet.content_type,
        packet.response_topic,
        packet.correlation_data,
    )
    if not (user or content_type or response or correlation or packet.retain):
        return None
    found: dict[str, object] = {}
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
