"""Errors of a broker connection, with cause and remedy. They come from reason codes, or from failures before there is one."""

from __future__ import annotations

from mqtt5 import ConnAckPacket, DisconnectPacket, SubAckReasonCode

from sensorsync.errors import AlreadyRunningError, BrokerError
from sensorsync.mqtt.client.causes import CAUSES, Cause, cause_of_reason_code
from sensorsync.mqtt.client.options import ConnectOptions

_MAX_REASON_LENGTH = 500
"""Number of characters of a Reason String that are shown. A broker may send 65,535 bytes of it at each of our attempts."""


class BrokerUnavailable(BrokerError):
    """The broker cannot be reached now; connecting again later may help."""

    code = "broker_unavailable"

    def __init__(self, message: str | None = None, *, hint: str | None = None, cause: Cause | None = None) -> None:
        super().__init__(message, hint=hint or (cause.hint if cause else None))
        self.cause = cause


class BrokerRefused(BrokerError):
    """The broker refuses this client; connecting again changes nothing until the cause is fixed."""

    code = "broker_refused"

    def __init__(self, message: str | None = None, *, hint: str | None = None, cause: Cause | None = None) -> None:
        super().__init__(message, hint=hint or (cause.hint if cause else None))
        self.cause = cause


class SessionTakenOver(AlreadyRunningError):
    """Another client connected to the broker under our client id."""

    code = "session_taken_over"
    cause = CAUSES["client_id_taken"]


class EmptyTopic(BrokerUnavailable):
    """The broker sent a message with an empty topic: a topic alias, which we allow no broker to use."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"broker {where} sent a message with an empty topic: a topic alias, although we state no Topic Alias Maximum",
            hint="the message stays in the broker: update the broker, or turn topic aliases for subscribers off in it",
            cause=CAUSES["topic_alias_invalid"],
        )


def broker_error(cause: Cause, message: str) -> BrokerError:
    """Return the error for `cause`. The cause decides whether connecting again can help."""
    return (BrokerRefused if cause.permanent else BrokerUnavailable)(message, cause=cause)


def _reason_code_error(message: str, code: int, reason: str | None) -> BrokerError:
    cause = cause_of_reason_code(code)
    return broker_error(
        cause, f"{message}: {cause.description} (0x{code:02X})" + (f": {reason[:_MAX_REASON_LENGTH]}" if reason else "")
    )


def connack_error(where: str, packet: ConnAckPacket) -> BrokerError:
    """Return the error for a CONNACK that does not report success."""
    server = f" {packet.server_reference}" if packet.server_reference else ""
    return _reason_code_error(
        f"broker {where} refused the connection", int(packet.reason_code), (packet.reason_str or "") + server
    )


def disconnect_error(where: str, packet: DisconnectPacket) -> BrokerError | AlreadyRunningError:
    """Return the error for a DISCONNECT that the broker sent."""
    code = int(packet.reason_code)
    if code == SessionTakenOver.cause.reason_code:
        return SessionTakenOver(
            f"another client connected to {where} under our client id",
            hint="a second instance runs with the same mqtt.client_id and mqtt.instance: stop it or give it another mqtt.instance",
        )
    return _reason_code_error(f"broker {where} closed the connection", code, packet.reason_str)


def suback_error(options: ConnectOptions, topic_filter: str, code: SubAckReasonCode) -> BrokerError:
    """Return the error for a refused topic filter.

    MQTT 3.1.1 has one code for all reasons. Mostly the reason is the broker's access rules.
    """
    reason = cause_of_reason_code(int(code))
    denied = reason.key == "not_authorized" or options.protocol == "3.1.1"
    cause = CAUSES["subscribe_denied"] if denied else reason
    message = (
        f"broker {options.address} refused the subscription {topic_filter!r}: {reason.description} (0x{int(code):02X})"
    )
    return broker_error(cause, message)
