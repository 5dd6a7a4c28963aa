"""How a connection to the broker is made: what CONNECT says, and the TLS context."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from mqtt5 import ConnectPacket

from sensorsync.config import Settings
from sensorsync.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """What a CONNECT says. Durations in seconds, sizes in bytes."""

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    clean_start: bool = False
    session_expiry: float = 0.0
    receive_maximum: int = 65535
    keep_alive: float = 30.0
    connect_timeout: float = 10.0
    max_packet_size: int | None = None

    @property
    def where(self) -> str:
        """host:port, for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def packet(self) -> ConnectPacket:
        """The CONNECT packet."""
        return ConnectPacket(
            self.client_id,
            username=self.username,
            password=self.password.encode() if self.password is not None else None,
            clean_start=self.clean_start,
            keep_alive=min(65535, max(1, round(self.keep_alive))) if self.keep_alive else 0,
            session_expiry_interval=min(0xFFFFFFFF, int(self.session_expiry)),
            receive_max=self.receive_maximum,
            max_packet_size=self.max_packet_size,
        )


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context that the `mqtt.tls` settings ask for, TLS 1.2 at least; None for a plain connection.

    Raises ConfigurationError when a file can't be used.
    """
    mqtt = settings.mqtt
    if not mqtt.use_tls:
        return None
    tls = mqtt.tls
    try:
        context = ssl.create_default_context(cafile=str(tls.ca_file) if tls.ca_file else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.cert_file and tls.key_file:
            password = tls.key_password.get_secret_value() if tls.key_password else None
            context.load_cert_chain(str(tls.cert_file), str(tls.key_file), password)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"the TLS files cannot be used: {error}",
            hint="check mqtt.tls.ca_file (CA_CERT_PATH), mqtt.tls.cert_file and mqtt.tls.key_file",
        ) from error
    return context


def connect_options(settings: Settings, client_id: str, *, receive_maximum: int = 65535) -> ConnectOptions:
    """How a connection under `client_id` is made with these settings."""
    mqtt = settings.mqtt
    return ConnectOptions(
        host=mqtt.host,
        port=mqtt.port,
        client_id=client_id,
        username=mqtt.username,
        password=mqtt.password.get_secret_value() if mqtt.password else None,
        tls=tls_context(settings),
        server_name=mqtt.tls.server_name,
        clean_start=mqtt.ephemeral,
        session_expiry=0 if mqtt.ephemeral else mqtt.session_expiry,
        receive_maximum=receive_maximum,
        keep_alive=mqtt.keep_alive,
        connect_timeout=mqtt.connect_timeout,
        max_packet_size=mqtt.max_packet_size,
    )
