"""The section `mqtt`: the broker, our sessions and our subscriptions."""

from __future__ import annotations

import socket
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sensorsync.config.sections.fields import (
    AsText,
    CommaSeparated,
    FilePath,
    Port,
    PositiveInt,
    Secret,
    SecretFile,
    Section,
    resolve_password,
    section,
    setting,
)
from sensorsync.config.sections.units import Duration, Size
from sensorsync.messages.topics import ClientIdPart, GroupName, TopicFilter

PLAIN_PORT = 1883
TLS_PORT = 8883
WS_PORT = 8083
"""Default port of EMQX for WebSockets. MQTT itself does not define one."""
WSS_PORT = 8084
"""Default port of EMQX for WebSockets with TLS."""
HTTPS_PORT = 443
AlpnName = Annotated[str, Field(pattern=r"^[!-~]{1,255}$")]
"""Name of a protocol in ASCII (RFC 7301, section 3.1)."""


class TlsSettings(Section):
    """`mqtt.tls`: how the connection to the broker is encrypted and both ends are known."""

    enabled: bool | None = setting(
        None,
        doc="Encrypt the connection. Unset: yes when `mqtt.tls.ca_file` is set or `mqtt.port` is 8883.",
        example=True,
        default_text="decided by ca_file and port",
    )
    ca_file: FilePath | None = setting(
        None,
        doc="PEM file of the authority that signed the broker's certificate. Unset: the system's authorities.",
        example="/etc/ssl/certs/broker-ca.pem",
        env=["CA_CERT_PATH"],
    )
    cert_file: FilePath | None = setting(
        None, doc="PEM file of our own certificate, for mutual TLS.", example="/etc/sensorsync/client.pem"
    )
    key_file: FilePath | None = setting(
        None, doc="PEM file of the private key of `mqtt.tls.cert_file`.", example="/etc/sensorsync/client.key"
    )
    key_password: Secret | None = setting(None, doc="Password of `mqtt.tls.key_file`.", example="change-me")
    server_name: str | None = setting(
        None,
        doc="The name that the broker's certificate must carry, when it is not `mqtt.host`.",
        example="broker.example.com",
    )

    alpn: Annotated[tuple[AlpnName, ...], CommaSeparated] = setting(
        (),
        doc="Protocol names to offer (ALPN), where a provider asks for one: brokers that share port 443 with other services.",
        example=["mqtt"],
    )

    @model_validator(mode="after")
    def _certificate_and_key_together(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("mqtt.tls.cert_file and mqtt.tls.key_file need each other: set both or neither")
        if self.key_password is not None and self.key_file is None:
            raise ValueError("mqtt.tls.key_password is set, but mqtt.tls.key_file is not")
        return self


def _default_port(declared: dict[str, Any]) -> int:
    tls = declared.get("tls")
    wants_tls = tls is not None and (tls.enabled or (tls.enabled is None and tls.ca_file is not None))
    if declared.get("transport") == "websockets":
        return WSS_PORT if wants_tls else WS_PORT
    return TLS_PORT if wants_tls else PLAIN_PORT


class MqttSettings(Section):
    """`mqtt`: the broker, who we are to it, and what we subscribe to."""

    host: str = setting(
        "localhost",
        doc="Host name or address of the broker.",
        example="broker.example.com",
        env=["MQTT_BROKER_HOST", "MQTT_BROKER"],
        min_length=1,
    )
    client: Literal["native", "paho"] = setting(
        "native",
        doc="The engine that speaks to the broker. `native` is the fast one: MQTT 5 over TCP or TLS. `paho` (on paho-mqtt) also speaks"
        " MQTT 3.1.1 and WebSockets.",
        example="native",
    )
    protocol: Annotated[Literal["5", "3.1.1"], AsText] = setting(
        "5", doc="Version of MQTT. 3.1.1 needs `mqtt.client: paho`.", example="5"
    )
    transport: Literal["tcp", "websockets"] = setting(
        "tcp",
        doc="What carries MQTT, with or without TLS in between. `websockets` needs `mqtt.client: paho`;"
        " ports 8084 and 443 then imply TLS.",
        example="tcp",
    )
    websocket_path: Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=1024)] = setting(
        "/mqtt", doc="Path of the broker's WebSocket.", example="/mqtt"
    )
    tls: TlsSettings = section(TlsSettings)
    port: Port = setting(
        doc="TCP port of the broker. 8883 implies TLS.",
        example=1883,
        env=["MQTT_BROKER_PORT", "MQTT_BROKER"],
        default_factory=_default_port,
        default_text="1883, or 8883 with TLS; with WebSockets 8083, or 8084 with TLS",
    )
    username: str | None = setting(None, doc="User name for the broker.", example="sensors", env=["MQTT_USERNAME"])
    password_file: SecretFile | None = setting(
        None,
        doc="A file that holds the password for the broker: a secret of Docker, a credential of systemd.",
        example="/run/secrets/mqtt-password",
    )
    password: Annotated[Secret | None, AfterValidator(resolve_password)] = setting(
        None, doc="Password for the broker.", example="change-me", env=["MQTT_PASSWORD"]
    )
    client_id: ClientIdPart = setting(
        "sensorsync",
        doc="First part of our client ids, which are `<client_id>-<instance>-<process>-<k>` and stay the same over restarts.",
        example="sensorsync",
        max_length=128,
    )
    instance: ClientIdPart = setting(
        doc="Second part of our client ids. Must differ between hosts (or containers) that share a broker and a client_id.",
        example="edge-1",
        default_factory=lambda _: socket.gethostname() or "localhost",
        default_text="the host name",
        max_length=255,
    )
    adopt: Annotated[tuple[str, ...], CommaSeparated] = setting(
        (),
        doc="Instances that are gone for good (renamed, moved): what waits in their sessions is stored, and the sessions end."
        " Their `mqtt.instance`; `<client_id>-<instance>` where the client_id was another.",
        example=["edge-0"],
    )
    topics: Annotated[tuple[TopicFilter, ...], CommaSeparated] = setting(
        ("sensors/live/#",), doc="Topic filters to subscribe to.", example=["sensors/live/#"], min_length=1
    )
    group: GroupName = setting(
        "sensorsync",
        doc="Name of the shared subscription (`$share/<group>/<filter>`) that all our connections form.",
        example="sensorsync",
    )
    connections: PositiveInt | Literal["auto"] = setting(
        "auto",
        doc="Connections (links) to hold open in the group. `auto`: as many as the broker's window needs, at least 16. Each is a"
        " session with a queue of its own in the broker, so fewer of them hold less of a burst.",
        example="auto",
    )
    max_connections: Annotated[int, Field(ge=1, le=1000)] = setting(
        64, doc="Upper bound for `mqtt.connections: auto`.", example=64
    )
    receive_maximum: Port | None = setting(
        None,
        doc="Unacknowledged messages that we let the broker send on one connection (MQTT 5 Receive Maximum).",
        example=1000,
        unit="messages",
        default_text="2 x workers x batch_size, shared by the connections",
    )
    keep_alive: Annotated[Duration, Field(ge=1, le=65535)] = setting(
        30.0, doc="Longest silence on a connection.", example="30s", unit="duration"
    )
    session_expiry: Annotated[Duration, Field(ge=1, le=0xFFFFFFFE)] = setting(
        604800.0,
        doc="How long the broker keeps our sessions, with what arrives meanwhile, while we are away.",
        example="7d",
        unit="duration",
    )
    connect_timeout: Annotated[Duration, Field(gt=0)] = setting(
        10.0, doc="Time for TCP, TLS and CONNECT together.", example="10s", unit="duration"
    )
    ack_timeout: Annotated[Duration, Field(gt=0)] = setting(
        300.0,
        doc="A message that nobody works on and that is older than this is a bug: reconnect its link.",
        example="5m",
        unit="duration",
    )
    backoff_min: Annotated[Duration, Field(gt=0)] = setting(
        0.5, doc="First wait before connecting again.", example="500ms", unit="duration"
    )
    backoff_max: Annotated[Duration, Field(gt=0)] = setting(
        30.0, doc="Longest wait before connecting again.", example="30s", unit="duration"
    )
    max_packet_size: Annotated[Size, Field(ge=1024, le=268435460)] | None = setting(
        None,
        doc="Largest packet that we let the broker send (MQTT 5 Maximum Packet Size). It drops larger ones without a word.",
        example="1MiB",
        unit="size",
        default_text="no bound",
    )
    ephemeral: bool = setting(
        False,
        doc="Clean start and no session left behind: for CI runs. What arrives while we are away is lost.",
        example=False,
    )
    on_stop: Literal["keep", "leave"] = setting(
        "keep",
        doc="`keep` the session in the broker (for a restart), or `leave` for good: unsubscribe, drain and end the session.",
        example="keep",
    )

    drain_quiet: Annotated[Duration, Field(gt=0)] = setting(
        5.0,
        doc="An unsubscribed session counts as drained, and may end, when nothing came for this long. Must be longer than the pauses"
        " that the broker makes while it hands out a queue.",
        example="5s",
        unit="duration",
    )

    @property
    def use_tls(self) -> bool:
        """True when the connection is encrypted."""
        if self.tls.enabled is not None:
            return self.tls.enabled
        encrypted = {TLS_PORT, WSS_PORT, HTTPS_PORT} if self.transport == "websockets" else {TLS_PORT}
        return self.tls.ca_file is not None or self.port in encrypted

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.backoff_min > self.backoff_max:
            raise ValueError("mqtt.backoff_min must not be above mqtt.backoff_max")
        if self.client == "native" and self.protocol != "5":
            raise ValueError(f"mqtt.protocol {self.protocol} needs mqtt.client: paho; the native engine speaks MQTT 5")
        if self.client == "native" and self.transport != "tcp":
            raise ValueError(
                f"mqtt.transport {self.transport} needs mqtt.client: paho; the native engine speaks TCP and TLS"
            )
        if self.protocol == "3.1.1" and self.password and self.username is None:
            raise ValueError(
                "mqtt.password is set, and mqtt.username is not: MQTT 3.1.1 allows no password without a user name"
                " ([MQTT-3.1.2-22]); set mqtt.username (MQTT_USERNAME), or mqtt.protocol to 5"
            )
        if isinstance(self.connections, int) and self.connections > self.max_connections:
            raise ValueError("mqtt.connections must not be above mqtt.max_connections")
        return self
