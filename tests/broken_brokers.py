"""Brokers that fail in one way each, and what `check-cloud` has to say of it."""

from __future__ import annotations

import socket
import ssl
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mqtt5

from tests.conftest import need
from tests.fakes import Answering, FakeBroker, InThread, Message
from tests.fakes.connection import ServerConnection
from tests.services import Certificates, Mosquitto, free_port

Mqtt = dict[str, Any]
"""The section `mqtt` of the settings."""


@dataclass(frozen=True)
class Way:
    """One way to fail."""

    name: str
    set_up: Callable[[Place], AbstractContextManager[Mqtt]]
    step: str
    key: str
    words: tuple[str, ...]
    """Parts of the message and the hint."""
    exit_code: int = 3


@dataclass(frozen=True)
class Place:
    """Where a way is set up."""

    folder: Path
    certificates: Certificates
    stack: ExitStack = field(default_factory=ExitStack)

    def mosquitto(self, **words: Any) -> Mosquitto:
        """A running mosquitto."""
        need(Mosquitto)
        return self.stack.enter_context(Mosquitto(**words))

    def tls(self, certificates: Certificates | None = None, **words: Any) -> Mqtt:
        """How to reach a mosquitto with these certificates, trusting our authority."""
        made = certificates or self.certificates
        broker = self.mosquitto(tls=made, **words)
        return {"host": "localhost", "port": broker.tls_port, "tls": {"ca_file": self.certificates.authority}}

    def fake(self, broker: FakeBroker | None = None, **knobs: Any) -> Mqtt:
        """How to reach a scripted broker."""
        running = self.stack.enter_context(InThread(broker or FakeBroker()))
        running.set(**knobs)
        return {"host": "127.0.0.1", "port": running.port}

    def answering(self, answer: bytes = b"", **words: Any) -> Mqtt:
        """How to reach a listener that is no broker."""
        running = self.stack.enter_context(InThread(Answering(answer, **words)))
        return {"host": "127.0.0.1", "port": running.port, "connect_timeout": 2.0}

    def server_context(self) -> ssl.SSLContext:
        """The server's side of TLS, with our certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.server, self.certificates.server_key)
        return context

    def handshaking(self, context: ssl.SSLContext) -> Mqtt:
        """How to reach a listener that shakes hands and hangs up; it says why it refuses, which asyncio's don't."""
        listener = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError), context.wrap_socket(connection, server_side=True):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self.stack.callback(thread.join, 5)
        self.stack.callback(listener.shutdown, socket.SHUT_RDWR)
        return {"host": "localhost", "port": listener.getsockname()[1], "connect_timeout": 2.0}

    def with_tls(self, mqtt: Mqtt) -> Mqtt:
        """The same, over TLS."""
        return {**mqtt, "host": "localhost", "tls": {"ca_file": self.certificates.authority}}


WAYS: list[Way] = []
Setup = Callable[[Place], Mqtt]


def way(step: str, key: str, *words: str, exit_code: int = 3) -> Callable[[Setup], Setup]:
    """Register a function that sets the way up; its name is the way's."""

    def register(set_up: Setup) -> Setup:
        @contextmanager
        def managed(place: Place) -> Iterator[Mqtt]:
            with place.stack:
                yield set_up(place)

        WAYS.append(Way(set_up.__name__, managed, step, key, words, exit_code))
        return set_up

    return register


# -- the network -------------------------------------------------------------------------------------------------------


@way("resolve", "name_unknown", "no-such-host.invalid", "mqtt.host")
def unknown_name(place: Place) -> Mqtt:
    return {"host": "no-such-host.invalid"}


@way("tcp", "refused", "nothing listens", "connection refused", "mqtt.port")
def refused(place: Place) -> Mqtt:
    return {"host": "127.0.0.1", "port": free_port()}


@way("tcp", "timeout", "no answer in 1 s", "firewall", "8883")
def black_hole(place: Place) -> Mqtt:
    listener = place.stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _ in range(2):  # its queue is full: the kernel drops further SYNs
        waiting = place.stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())
    return {"host": "127.0.0.1", "port": listener.getsockname()[1], "connect_timeout": 1.0}


# -- certificates ------------------------------------------------------------------------------------------------------


@way("tls", "certificate_authority", "certificate verify failed", "issued by trustme", "we trust", "ca_file")
def wrong_authority(place: Place) -> Mqtt:
    return place.tls() | {"tls": {"ca_file": place.certificates.stranger}}


@way("tls", "certificate_authority", "certificate verify failed", "this system's authorities", "CA_CERT_PATH")
def private_authority_not_configured(place: Place) -> Mqtt:
    return place.tls() | {"tls": {"enabled": True}}


@way("tls", "certificate_self_signed", "self-signed", "localhost", "mqtt.tls.ca_file")
def self_signed(place: Place) -> Mqtt:
    return place.tls(place.certificates.self_signed(place.folder))


def _issued(place: Place, **words: Any) -> Mqtt:
    folder = place.folder / "issued"
    folder.mkdir()
    made = Certificates.issue(folder, "localhost", **words)
    return place.tls(made) | {"tls": {"ca_file": made.authority}}


@way("tls", "certificate_expired", "has expired", "2020", "renew")
def expired(place: Place) -> Mqtt:
    return _issued(place, not_before=datetime(2019, 1, 1, tzinfo=UTC), not_after=datetime(2020, 1, 1, tzinfo=UTC))


@way("tls", "certificate_not_yet_valid", "not valid yet", "clock")
def not_yet_valid(place: Place) -> Mqtt:
    return _issued(place, not_before=datetime.now(UTC) + timedelta(days=9))


@way(
    "tls", "certificate_name", "we ask for broker.example.com", "it is for localhost, 127.0.0.1", "mqtt.tls.server_name"
)
def name_mismatch(place: Place) -> Mqtt:
    mqtt = place.tls()
    return mqtt | {"tls": {**mqtt["tls"], "server_name": "broker.example.com"}}


# -- the handshake -----------------------------------------------------------------------------------------------------


@way("tls", "plaintext_port", "does not speak TLS", "8883")
def tls_to_a_plaintext_port(place: Place) -> Mqtt:
    return place.with_tls({"port": place.mosquitto().port})


@way("tls", "plaintext_port", "begins with b'220 smtp", "mqtt.port")
def tls_to_a_port_that_answers_in_the_clear(place: Place) -> Mqtt:
    return place.with_tls(place.answering(b"220 smtp.example.com ESMTP\r\n"))


@way("tls", "http_port", "HTTP", "WebSocket")
def tls_to_a_web_server_in_the_clear(place: Place) -> Mqtt:
    return place.with_tls(place.answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"))


@way("tls", "handshake_timeout", "nothing came in 2 s", "firewall")
def tls_unanswered(place: Place) -> Mqtt:
    return place.with_tls(place.answering(hang_up=False))


@way("tls", "tls_version", "TLS 1.2 or 1.3")
def old_tls(place: Place) -> Mqtt:
    context = place.server_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return place.with_tls(place.handshaking(context))


@way("connect", "client_certificate_required", "demands a client certificate", "mqtt.tls.cert_file")
def client_certificate_missing(place: Place) -> Mqtt:
    return place.tls(client_certificates=True)


@way("tls", "client_certificate_required", "demands a client certificate", "mqtt.tls.cert_file")
def client_certificate_missing_in_tls_1_2(place: Place) -> Mqtt:
    context = place.server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(place.certificates.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    return place.with_tls(place.handshaking(context))


@way("connect", "client_certificate_rejected", "does not accept our client certificate", "signed by the CA")
def client_certificate_of_a_stranger(place: Place) -> Mqtt:
    folder = place.folder / "stranger"
    folder.mkdir()
    other = Certificates.issue(folder)
    mqtt = place.tls(client_certificates=True)
    return mqtt | {"tls": {**mqtt["tls"], "cert_file": other.client, "key_file": other.client_key}}


# -- login -------------------------------------------------------------------------------------------------------------


@way("connect", "tls_port", "expects TLS", "mqtt.tls.enabled")
def plaintext_to_a_tls_port(place: Place) -> Mqtt:
    return place.tls() | {"tls": {"enabled": False}}


@way("connect", "not_authorized", "not authorized (0x87)", "mqtt.password")
def wrong_password_at_mosquitto(place: Place) -> Mqtt:
    broker = place.mosquitto(users={"sensors": "right"})
    return {"host": "127.0.0.1", "port": broker.port, "username": "sensors", "password": "wrong"}


@way("connect", "wrong_password", "bad user name or password (0x86)", "mqtt.password")
def wrong_password_at_emqx(place: Place) -> Mqtt:
    return place.fake(credentials={"sensors": b"right"}) | {"username": "sensors", "password": "wrong"}


@way("connect", "not_authorized", "not authorized (0x87)", "mqtt.username")
def unknown_user_at_emqx(place: Place) -> Mqtt:
    return place.fake(credentials={"sensors": b"right"}) | {"username": "nobody", "password": "right"}


@way("connect", "protocol_version", "does not speak MQTT 5", "set mqtt.client: paho")
def only_mqtt_3_1_1(place: Place) -> Mqtt:
    return place.answering(b"\x20\x02\x00\x01")


@way("connect", "protocol_version", "does not speak MQTT 5", "closed the connection")
def only_mqtt_3_1_1_and_hangs_up_on_others(place: Place) -> Mqtt:
    return place.answering(b"\x20\x02\x00\x00", only_after=b"MQTT\x04")


@way("connect", "connect_unanswered", "does not answer CONNECT", "did not answer within 1 s")
def connect_unanswered(place: Place) -> Mqtt:
    return place.fake(answer_connect=False) | {"connect_timeout": 1.0}


@way("connect", "closed_at_connect", "instead of answering CONNECT", "see its log")
def hangs_up_at_connect(place: Place) -> Mqtt:
    return place.answering()


@way("connect", "http_port", "HTTP", "WebSocket")
def web_server(place: Place) -> Mqtt:
    return place.answering(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


@way("connect", "not_mqtt", "begins with b'SSH-2.0", "mqtt.port")
def another_service(place: Place) -> Mqtt:
    return place.answering(b"SSH-2.0-OpenSSH_9.9\r\n", hang_up=False)


CONNACK_CODES = (
    (mqtt5.ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION, "protocol_version", "does not speak MQTT 5 (0x84)"),
    (mqtt5.ConnAckReasonCode.CLIENT_ID_NOT_VALID, "client_id_refused", "refuses this client id (0x85)"),
    (mqtt5.ConnAckReasonCode.SERVER_BUSY, "server_busy", "server busy (0x89)"),
    (mqtt5.ConnAckReasonCode.BANNED, "banned", "banned (0x8A)"),
    (mqtt5.ConnAckReasonCode.BAD_AUTHENTICATION_METHOD, "authentication_method", "authentication method (0x8C)"),
    (mqtt5.ConnAckReasonCode.QUOTA_EXCEEDED, "quota_exceeded", "quota exceeded (0x97)"),
    (mqtt5.ConnAckReasonCode.CONNECTION_RATE_EXCEEDED, "connection_rate_exceeded", "connection rate exceeded (0x9F)"),
)


def _says(code: mqtt5.ConnAckReasonCode, key: str, words: str) -> None:
    def set_up(place: Place) -> Mqtt:
        return place.fake(FakeBroker(connack_codes=deque([code])))

    set_up.__name__ = f"connack_0x{int(code):02x}"
    way("connect", key, words)(set_up)


for _code, _key, _words in CONNACK_CODES:
    _says(_code, _key, _words)


class OneName(FakeBroker):
    """Gives all clients the same id."""

    def _on_connect(self, connection: ServerConnection, packet: mqtt5.ConnectPacket) -> None:
        same = mqtt5.ConnectPacket("same", clean_start=packet.clean_start, receive_max=packet.receive_max)
        super()._on_connect(connection, same)


@way("subscribe", "client_id_taken", "another client connected", "use_username_as_clientid")
def one_client_id_for_all_at_emqx(place: Place) -> Mqtt:
    return place.fake(OneName())


@way("subscribe", "client_id_taken", "another client connected", "use_username_as_clientid")
def one_client_id_for_all(place: Place) -> Mqtt:
    port = free_port()
    place.mosquitto(users={"sensors": "right"}, options=[f"listener {port} 127.0.0.1", "use_username_as_clientid true"])
    return {"host": "127.0.0.1", "port": port, "username": "sensors", "password": "right"}


# -- access ------------------------------------------------------------------------------------------------------------


@way("limits", "qos_not_supported", "QoS 0", "QoS 1")
def no_qos_1(place: Place) -> Mqtt:
    return place.fake(connack={"max_qos": mqtt5.QoS.AT_MOST_ONCE})


@way("limits", "wildcards_not_supported", "sensors/live/#", "without + and #")
def no_wildcards(place: Place) -> Mqtt:
    return place.fake(connack={"wildcard_subscription_available": False})


def _access(place: Place, *rules: str) -> Mqtt:
    rules_file = place.folder / "access"
    rules_file.write_text("\n".join(rules) + "\n")
    rules_file.chmod(0o600)
    return {"host": "127.0.0.1", "port": place.mosquitto(options=[f"acl_file {rules_file}"]).port}


@way("subscribe", "subscribe_denied", "'sensors/test/connectivity'", "0x87", "ACL")
def subscribing_denied(place: Place) -> Mqtt:
    return place.fake(suback_codes={"sensors/test/connectivity": mqtt5.SubAckReasonCode.NOT_AUTHORIZED})


@way("subscribe", "subscribe_denied", "'sensors/live/#'", "0x87", "ACL")
def the_real_topics_denied(place: Place) -> Mqtt:
    return place.fake(suback_codes={"sensors/live/#": mqtt5.SubAckReasonCode.NOT_AUTHORIZED})


@way("subscribe", "subscribe_qos", "only QoS 0", "allow QoS 1")
def only_qos_0_granted(place: Place) -> Mqtt:
    return place.fake(suback_codes={"sensors/test/connectivity": mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE})


@way("subscribe", "subscribe_unanswered", "no SUBACK in 1 s")
def subscribe_unanswered(place: Place) -> Mqtt:
    return place.fake(withhold_suback=True) | {"connect_timeout": 1.0}


@way("publish", "publish_denied", "'sensors/test/connectivity'", "0x87", "ACL")
def publishing_denied(place: Place) -> Mqtt:
    return _access(place, "topic read sensors/#")


@way("publish", "publish_unanswered", "without a PUBACK after 1 s", "quota")
def publish_unanswered(place: Place) -> Mqtt:
    return place.fake(withhold_publisher_acks=True) | {"connect_timeout": 1.0}


@way("publish", "quota_exceeded", "0x97", "quota")
def publishing_over_quota(place: Place) -> Mqtt:
    return place.fake(puback_code=lambda _: mqtt5.PubAckReasonCode.QUOTA_EXCEEDED)


@way("share", "share_not_supported", "CONNACK says so", "$share")
def no_shared_subscriptions(place: Place) -> Mqtt:
    return place.fake(connack={"shared_subscription_available": False})


# -- delivery ----------------------------------------------------------------------------------------------------------


class Forgetful(FakeBroker):
    """Acknowledges every message and delivers none."""

    def route(self, message: Message) -> int:
        return 1


class Literal(FakeBroker):
    """Takes `$share/...` for a topic like any other."""

    def _route_shared(self, share: str, message: Message) -> bool:
        return False


class Everyone(FakeBroker):
    """Gives each member of a shared subscription everything."""

    def _route_shared(self, share: str, message: Message) -> bool:
        members = [session for session in self.sessions.values() if share in session.subscriptions]
        for member in members:
            self._deliver(member, message)
        return bool(members)


@way("publish", "probes_lost", "3 of 3 did not come back", "queue", exit_code=5)
def nothing_delivered(place: Place) -> Mqtt:
    return place.fake(Forgetful())


@way("share", "share_lost", "0 of 10 arrived", exit_code=5)
def shares_are_plain_topics(place: Place) -> Mqtt:
    return place.fake(Literal())


@way("share", "share_repeated", "10 messages came 20 times", exit_code=5)
def shares_are_not_shared(place: Place) -> Mqtt:
    return place.fake(Everyone())


@way("persistence", "session_not_kept", "session_present is 0", exit_code=5)
def session_forgotten(place: Place) -> Mqtt:
    return place.fake(session_present=False)


@way("persistence", "session_not_kept", "expiry of 0 s", exit_code=5)
def session_not_granted(place: Place) -> Mqtt:
    return place.fake(session_expiry=0)


@way("persistence", "queued_message_lost", "did not come", "max_queued_messages", exit_code=5)
def queue_lost(place: Place) -> Mqtt:
    return place.fake(queue_limit=0)


@way("window", "window_too_small", "32 unacknowledged", "mqtt.connections: 32", "mqtt.max_inflight", exit_code=5)
def window_too_small(place: Place) -> Mqtt:
    return place.fake() | {"connections": 1}
