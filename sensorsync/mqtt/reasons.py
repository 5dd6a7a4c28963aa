"""What a broker's reason codes mean, in a sentence and with what to do about it (MQTT 5.0, sections 2.4, 3.2.2.2 and 3.14.2.1)."""

from __future__ import annotations

from typing import NamedTuple

from mqtt5 import ConnAckPacket, DisconnectPacket, SubAckReasonCode

from sensorsync.errors import AlreadyRunningError, BrokerError


class BrokerUnavailable(BrokerError):
    """The broker cannot be reached now; connecting again later may help."""

    code = "broker_unavailable"


class BrokerRefused(BrokerError):
    """The broker refuses this client; connecting again changes nothing until somebody mends the cause."""

    code = "broker_refused"


class SessionTakenOver(AlreadyRunningError):
    """Another client connected to the broker under our client id."""

    code = "session_taken_over"


class Meaning(NamedTuple):
    """Why a broker said no, and what helps. `lasting`: it will say no again until something is mended."""

    cause: str
    hint: str | None
    lasting: bool


_CREDENTIALS = "check mqtt.username and mqtt.password (MQTT_USERNAME, MQTT_PASSWORD)"
_MEANINGS = {
    0x80: Meaning("unspecified error", "look into the broker's log", False),
    0x81: Meaning("malformed packet", "is this port really an MQTT 5 listener?", True),
    0x82: Meaning("protocol error", "look into the broker's log", True),
    0x83: Meaning("the broker does not accept this request", "look into the broker's log", True),
    0x84: Meaning("unsupported protocol version", "the broker does not speak MQTT 5", True),
    0x85: Meaning("client id not valid", "change mqtt.client_id or mqtt.instance", True),
    0x86: Meaning("bad user name or password", _CREDENTIALS, True),
    0x87: Meaning("not authorized", f"{_CREDENTIALS} and the broker's access rules", True),
    0x88: Meaning("server unavailable", None, False),
    0x89: Meaning("server busy", None, False),
    0x8A: Meaning("this client is banned", "ask the broker's administrator", True),
    0x8B: Meaning("the server is shutting down", None, False),
    0x8C: Meaning(
        "bad authentication method", "the broker wants an authentication that sensorsync does not offer", True
    ),
    0x8D: Meaning("keep-alive time-out", "raise mqtt.keep_alive if the network is slow", False),
    0x8E: Meaning("session taken over", "give each instance its own mqtt.instance", True),
    0x8F: Meaning("topic filter invalid", "check mqtt.topics", True),
    0x90: Meaning("topic name invalid", "check the topic", True),
    0x93: Meaning(
        "receive maximum exceeded", "this is a fault of sensorsync or of the broker: please report it", False
    ),
    0x94: Meaning("topic alias invalid", None, False),
    0x95: Meaning("packet too large", "raise the broker's packet size limit", False),
    0x96: Meaning("message rate too high", "the broker throttles this client; see your plan's quota", False),
    0x97: Meaning("quota exceeded", "see the broker's limits or your plan's quota", False),
    0x98: Meaning("administrative action", "an administrator closed the connection", False),
    0x99: Meaning("payload format invalid", None, False),
    0x9A: Meaning("retain not supported", None, True),
    0x9B: Meaning("QoS not supported", "the broker must allow QoS 1", True),
    0x9C: Meaning("use another server", "change mqtt.host", True),
    0x9D: Meaning("server moved", "change mqtt.host", True),
    0x9E: Meaning("shared subscriptions not supported", "sensorsync needs $share; enable it in the broker", True),
    0x9F: Meaning("connection rate exceeded", "the broker throttles new connections; see your plan's quota", False),
    0xA0: Meaning("maximum connect time", None, False),
    0xA1: Meaning("subscription identifiers not supported", None, True),
    0xA2: Meaning("wildcard subscriptions not supported", "name the topics without + and #", True),
}


def meaning(code: int) -> Meaning:
    """What `code` means; an unknown one is a passing fault."""
    return _MEANINGS.get(code) or Meaning(f"reason code 0x{code:02X}", None, False)


def _error(said: str, code: int, reason: str | None) -> BrokerError:
    cause, hint, lasting = meaning(code)
    words = f"{said}: {cause} (0x{code:02X})" + (f": {reason}" if reason else "")
    return (BrokerRefused if lasting else BrokerUnavailable)(words, hint=hint)


def connack_error(where: str, packet: ConnAckPacket) -> BrokerError:
    """The error of a CONNACK that is no success."""
    server = f" {packet.server_reference}" if packet.server_reference else ""
    return _error(f"broker {where} refused the connection", int(packet.reason_code), (packet.reason_str or "") + server)


def disconnect_error(where: str, packet: DisconnectPacket) -> BrokerError | AlreadyRunningError:
    """The error of a DISCONNECT that the broker sent."""
    code = int(packet.reason_code)
    if code == 0x8E:
        return SessionTakenOver(
            f"another client connected to {where} under our client id",
            hint="a second instance runs with the same mqtt.client_id and mqtt.instance: stop it or give it another mqtt.instance",
        )
    return _error(f"broker {where} closed the connection", code, packet.reason_str)


def suback_error(where: str, pattern: str, code: SubAckReasonCode) -> BrokerError:
    """The error of a refused topic filter."""
    return _error(f"broker {where} refused the subscription {pattern!r}", int(code), None)
