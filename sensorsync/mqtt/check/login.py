"""CONNECT, and the limits that CONNACK states."""

from __future__ import annotations

from typing import Any

from mqtt5 import ConnAckPacket

from sensorsync.config.sections.units import format_duration, format_size
from sensorsync.mqtt.check.client import CheckClient
from sensorsync.mqtt.check.context import CheckContext
from sensorsync.mqtt.check.disconnect_diagnosis import diagnose_disconnect
from sensorsync.mqtt.check.report import StepFailed, StepOutput, StepProblem
from sensorsync.mqtt.client.causes import CAUSES

_UNLIMITED = 65535


async def check_connect(context: CheckContext) -> StepOutput:
    """Connect as `subscribe` does, but with a clean start and a separate client id. Raises StepFailed.

    CONNECT requests `mqtt.session_expiry`, because only then the broker states what it grants. The session is ended at once, and
    is empty anyway.
    """
    mqtt = context.settings.mqtt
    options = context.options("login", session_expiry=0 if mqtt.ephemeral else mqtt.session_expiry)
    try:
        async with CheckClient(options) as client:
            context.connack, context.rtt = client.connack, client.rtt
    except StepFailed as failed:
        key, detail = failed.problem.cause.key, failed.problem.detail
        if key == "timeout":
            raise StepFailed("connect_unanswered", detail) from failed
        if key == "closed_at_connect" and options.engine == "native":
            raise StepFailed(await diagnose_disconnect(options), detail) from failed
        raise
    assigned = context.connack.assigned_client_id
    carrier = " over a WebSocket" if mqtt.transport == "websockets" else ""
    user = f"user {mqtt.username}" if mqtt.username is not None else "no user name"
    return StepOutput(
        f"MQTT {mqtt.protocol}{carrier}, {user}, client id {assigned or options.client_id}, answered in {client.rtt * 1000:.1f} ms",
        {"client_id": assigned or options.client_id, "username": mqtt.username, "answer_seconds": round(client.rtt, 6)},
    )


def check_limits(context: CheckContext) -> StepOutput:
    """Check the limits that the broker states (MQTT 5.0, section 3.2.2.3).

    Raises StepFailed when sensorsync cannot work with them.
    """
    mqtt, connack = context.settings.mqtt, context.connack
    asked = 0 if mqtt.ephemeral or mqtt.protocol != "5" else int(mqtt.session_expiry)
    granted = asked if connack.session_expiry_interval is None else connack.session_expiry_interval
    facts = {
        "receive_maximum": connack.receive_max,
        "maximum_packet_size": connack.max_packet_size,
        "maximum_qos": int(connack.max_qos),
        "retain": connack.retain_available,
        "wildcards": connack.wildcard_subscription_available,
        "shared_subscriptions": connack.shared_subscription_available,
        "topic_alias_maximum": connack.topic_alias_max,
        "server_keep_alive": connack.server_keep_alive,
        "session_expiry": granted,
    }
    if int(connack.max_qos) < 1:
        raise StepFailed("qos_not_supported", "CONNACK states a maximum of QoS 0", **facts)
    wildcards = [one for one in mqtt.topics if "+" in one or "#" in one]
    if wildcards and not connack.wildcard_subscription_available:
        raise StepFailed("wildcards_not_supported", ", ".join(wildcards), **facts)
    warnings: tuple[StepProblem, ...] = ()
    if granted < asked:
        detail = f"{format_duration(granted)}, not {format_duration(asked)}"
        warnings = (StepProblem(CAUSES["session_expiry_shortened"], detail),)
    summary = _limits_summary(connack, facts) if mqtt.protocol == "5" else f"MQTT {mqtt.protocol} does not state any"
    return StepOutput(summary, facts, warnings)


def _limits_summary(connack: ConnAckPacket, facts: dict[str, Any]) -> str:
    window = "any number of" if connack.receive_max == _UNLIMITED else f"{connack.receive_max:,}"
    size = format_size(connack.max_packet_size) if connack.max_packet_size else "any size"
    words = f"{window} unacknowledged publishes a connection, packets of {size}, QoS {facts['maximum_qos']}"
    if facts["session_expiry"]:
        words += f", sessions kept for {format_duration(facts['session_expiry'])}"
    if connack.server_keep_alive is not None:
        words += f", keep-alive {connack.server_keep_alive} s"
    return words
