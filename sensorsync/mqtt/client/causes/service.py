"""Causes within MQTT: login, access to topics, and the broker's handling of messages and sessions."""

from __future__ import annotations

from typing import Final

from sensorsync.mqtt.client.causes.cause import Cause, GuideSection

LOGIN: Final = (
    Cause(
        "wrong_password",
        GuideSection.LOGIN,
        "bad user name or password",
        "check mqtt.username and mqtt.password (MQTT_USERNAME, MQTT_PASSWORD): a cloud broker wants those of the deployment's own"
        " user list, not those of your account",
        reason_code=0x86,
        typical_messages="Connection refused: bad user name or password (MQTT 3.1.1: return code 4)",
    ),
    Cause(
        "not_authorized",
        GuideSection.LOGIN,
        "not authorized",
        "check mqtt.username and mqtt.password (MQTT_USERNAME, MQTT_PASSWORD) and the broker's access rules",
        reason_code=0x87,
        typical_messages="Connection refused: not authorised (MQTT 3.1.1: return code 5)",
    ),
    Cause(
        "protocol_version",
        GuideSection.LOGIN,
        "the broker does not speak MQTT 5",
        "enable MQTT 5 on the broker's listener, or update the broker, or set mqtt.client: paho and mqtt.protocol: 3.1.1",
        reason_code=0x84,
        typical_messages="Connection refused: unacceptable protocol version (MQTT 3.1.1: return code 1)",
    ),
    Cause(
        "client_id_refused",
        GuideSection.LOGIN,
        "the broker refuses this client id",
        "change mqtt.client_id or mqtt.instance: some brokers allow only ids of a given form or length, or those on a list",
        reason_code=0x85,
        typical_messages="Client identifier not valid (MQTT 3.1.1: return code 2)",
    ),
    Cause(
        "client_id_taken",
        GuideSection.LOGIN,
        "session taken over: another client connected under our client id",
        "give each instance its own mqtt.instance. The ids of check-cloud are random: if it says so, the broker makes client ids"
        " itself, of the user name (mosquitto: use_username_as_clientid; EMQX: mqtt.use_username_as_clientid): turn that off,"
        " for sensorsync connects several times under one user name",
        reason_code=0x8E,
        typical_messages="disconnected: session taken over; two clients that disconnect each other for ever",
    ),
    Cause(
        "banned",
        GuideSection.LOGIN,
        "this client is banned",
        "ask the broker's administrator; EMQX bans clients that connect too often (flapping)",
        reason_code=0x8A,
    ),
    Cause(
        "authentication_method",
        GuideSection.LOGIN,
        "bad authentication method",
        "the broker wants an authentication that sensorsync does not offer: allow user name and password, or client certificates",
        reason_code=0x8C,
    ),
    Cause(
        "connect_unanswered",
        GuideSection.LOGIN,
        "the broker does not answer CONNECT",
        "is this an MQTT listener? If it is, the broker is overloaded, or the service that it asks for passwords does not answer",
        permanent=False,
    ),
    Cause(
        "closed_at_connect",
        GuideSection.LOGIN,
        "the broker closes the connection instead of answering CONNECT",
        "see its log: too many connections, an address that is not allowed, a listener that is no MQTT 5,"
        " or TLS not set as the broker expects it (mqtt.tls)",
        permanent=False,
    ),
    Cause(
        "http_port",
        GuideSection.LOGIN,
        "this is an HTTP (or WebSocket) port",
        "set mqtt.port to the broker's TCP listener, usually 1883, or 8883 with TLS; or set mqtt.client: paho and"
        " mqtt.transport: websockets",
        permanent=False,
        typical_messages="HTTP/1.1 400 Bad Request; ports 80, 443, 8080, 8083, 8084",
    ),
    Cause(
        "websocket_refused",
        GuideSection.LOGIN,
        "no WebSocket for MQTT is offered there",
        "check mqtt.port (usually 8083, or 8084 with TLS) and mqtt.websocket_path (usually /mqtt), and that TLS is set as the broker"
        " expects it (mqtt.tls); for a TCP listener (1883, 8883) set mqtt.transport: tcp",
        permanent=False,
        typical_messages="WebSocket handshake error; HTTP/1.1 404 Not Found",
    ),
    Cause(
        "not_mqtt",
        GuideSection.LOGIN,
        "what answers on this port is not MQTT",
        "check mqtt.host and mqtt.port, and that TLS is set as the broker expects it (mqtt.tls)",
        permanent=False,
    ),
)

ACCESS: Final = (
    Cause(
        "subscribe_denied",
        GuideSection.ACCESS,
        "the broker's access rules don't let us subscribe",
        "allow this user to subscribe to the topic (ACL), also as $share/<group>/<topic>",
        typical_messages="SUBACK 0x87; MQTT 3.1.1: SUBACK 0x80",
    ),
    Cause(
        "subscribe_unanswered",
        GuideSection.ACCESS,
        "the broker does not answer SUBSCRIBE",
        "look into the broker's log; a broker that asks an outside service for its access rules may wait for that",
        permanent=False,
    ),
    Cause(
        "subscribe_qos",
        GuideSection.ACCESS,
        "the broker grants only QoS 0",
        "allow QoS 1: with QoS 0 nothing is acknowledged, and messages are lost",
    ),
    Cause(
        "publish_denied",
        GuideSection.ACCESS,
        "the broker's access rules don't let us publish",
        "allow this user to publish to the topic (ACL)",
        typical_messages="PUBACK 0x87; MQTT 3.1.1: the message vanishes without an error",
    ),
    Cause(
        "publish_unanswered",
        GuideSection.ACCESS,
        "the broker does not acknowledge PUBLISH",
        "the broker is overloaded or throttles this client: see its log, and your plan's quota of messages",
        permanent=False,
    ),
    Cause(
        "qos_not_supported",
        GuideSection.ACCESS,
        "QoS not supported",
        "the broker must allow QoS 1: without acknowledgements messages are lost",
        reason_code=0x9B,
    ),
    Cause(
        "share_not_supported",
        GuideSection.ACCESS,
        "shared subscriptions not supported",
        "sensorsync spreads the load over many connections with $share: enable it in the broker",
        reason_code=0x9E,
    ),
    Cause(
        "wildcards_not_supported",
        GuideSection.ACCESS,
        "wildcard subscriptions not supported",
        "name the topics in mqtt.topics without + and #, or enable wildcards in the broker",
        reason_code=0xA2,
    ),
)

DELIVERY: Final = (
    Cause(
        "probes_lost",
        GuideSection.DELIVERY,
        "the broker acknowledged messages that it did not deliver",
        "a full queue, a message rate limit, or access rules that drop silently: see the broker's log and your plan's quota",
        insufficient=True,
    ),
    Cause(
        "share_lost",
        GuideSection.DELIVERY,
        "messages for a shared subscription are not delivered",
        "the broker takes $share/... for a plain topic: enable shared subscriptions, or use a broker that has them",
        insufficient=True,
    ),
    Cause(
        "share_repeated",
        GuideSection.DELIVERY,
        "each member of a shared subscription gets every message",
        "the broker does not share: every message would be stored several times over the network; enable shared subscriptions",
        insufficient=True,
    ),
    Cause(
        "share_one_sided",
        GuideSection.DELIVERY,
        "one member of a shared subscription got all messages",
        "more connections then bring no more throughput: set the broker's strategy to round robin"
        " (EMQX: mqtt.shared_subscription_strategy)",
        insufficient=True,
    ),
    Cause(
        "session_not_kept",
        GuideSection.DELIVERY,
        "the broker forgets the session when we disconnect",
        "what arrives while sensorsync restarts would be lost: let the broker keep sessions"
        " (mosquitto: persistent_client_expiration bounds how long)",
        insufficient=True,
    ),
    Cause(
        "queued_message_lost",
        GuideSection.DELIVERY,
        "the broker kept the session, but not the message that came meanwhile",
        "let it queue QoS 1 messages for clients that are away (mosquitto: max_queued_messages; EMQX: mqtt.max_mqueue_len, and with it"
        " force_shutdown { max_mailbox_size = 100000, max_heap_size = 512MB } and about 2 kB of memory for each message that waits)",
        insufficient=True,
    ),
    Cause(
        "session_expiry_shortened",
        GuideSection.DELIVERY,
        "the broker keeps sessions for a shorter time than mqtt.session_expiry",
        "longer absences lose what arrives: raise the broker's bound, or set mqtt.session_expiry to what it grants",
        insufficient=True,
    ),
    Cause(
        "window_too_small",
        GuideSection.DELIVERY,
        "the delivery window does not even hold one batch",
        "set mqtt.connections: auto, and if that is not enough raise mqtt.max_connections or the broker's window"
        " (mosquitto: max_inflight_messages; EMQX: mqtt.max_inflight, and with it"
        " force_shutdown { max_mailbox_size = 100000, max_heap_size = 512MB }, or EMQX gives up sessions that hold much)",
        insufficient=True,
    ),
    Cause(
        "window_tight",
        GuideSection.DELIVERY,
        "the delivery window holds less than all writers could use",
        "for the highest throughput raise mqtt.max_connections (or mqtt.connections, if set)"
        " or the broker's window (mosquitto: max_inflight_messages; EMQX: mqtt.max_inflight, and with it"
        " force_shutdown { max_mailbox_size = 100000, max_heap_size = 512MB }, or EMQX gives up sessions that hold much)",
        insufficient=True,
    ),
    Cause(
        "topic_is_live",
        GuideSection.DELIVERY,
        "the topic of the probes is within mqtt.topics",
        "a running subscriber gets them, too, and parks them: give check-cloud another --topic",
        insufficient=True,
    ),
)
