"""Options of a connection to the broker: the contents of CONNECT, and the TLS context."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from mqtt5 import ConnectPacket
from pydantic import SecretStr

from sensorsync.config import Settings
from sensorsync.errors import ConfigurationError
from sensorsync.mqtt.client.causes import CAUSES

_MAX_RECEIVE_MAXIMUM = 65534
"""Largest Receive Maximum that we state. The codec omits 65535, because it is the default (section 3.1.2.11.3). Where none is
stated, mosquitto uses its own `max_inflight_messages`, which is 20.
"""


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """Options of one connection. Durations are in seconds, sizes in bytes."""

    host: str
    port: int
    client_id: str
    engine: Literal["native", "paho"] = "native"
    protocol: Literal["5", "3.1.1"] = "5"
    websocket_path: str | None = None
    """Path of the WebSocket. None connects without a WebSocket."""
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    has_client_certificate: bool = False
    """True when `tls` holds a client certificate."""
    clean_start: bool = False
    session_expiry: float = 0.0
    receive_maximum: int = 65535
    keep_alive: float = 30.0
    connect_timeout: float = 10.0
    max_packet_size: int | None = None

    @property
    def address(self) -> str:
        """Host and port as `host:port`, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def happy_eyeballs_delay(self) -> float | None:
        """Seconds until the host's next address is tried in parallel (RFC 8305), so that an unreachable one does not delay a
        reachable one.

        None for an IP address, because there is only one address to try. Cancelling a race between addresses loses the socket of
        the winner (seen in Python 3.11).
        """
        try:
            ip_address(self.host)
        except ValueError:
            return 0.25
        return None

    @property
    def keep_alive_seconds(self) -> int:
        """Keep-alive as CONNECT states it (section 3.1.2.10): whole seconds, 0 for none."""
        return min(65535, max(1, round(self.keep_alive))) if self.keep_alive else 0

    @property
    def session_expiry_seconds(self) -> int:
        """Session expiry as CONNECT states it (section 3.1.2.11.2): whole seconds."""
        return min(0xFFFFFFFF, int(self.session_expiry))

    def connect_packet(self) -> ConnectPacket:
        """Return the CONNECT packet of MQTT 5."""
        return ConnectPacket(
            self.client_id,
            username=self.username,
            password=self.password.encode() if self.password is not None else None,
            clean_start=self.clean_start,
            keep_alive=self.keep_alive_seconds,
            session_expiry_interval=self.session_expiry_seconds,
            receive_max=min(self.receive_maximum, _MAX_RECEIVE_MAXIMUM),
            max_packet_size=self.max_packet_size,
        )


def tls_context(settings: Settings, *, verify: bool = True) -> ssl.SSLContext | None:
    """Return the TLS context for the `mqtt.tls` settings, with TLS 1.2 at least, or None for a plain connection.

    Only a diagnosis that sends nothing may set `verify` to False. Raises ConfigurationError when a file cannot be used.
    """
    mqtt = settings.mqtt
    if not mqtt.use_tls:
        return None
    tls = mqtt.tls
    try:
        context = ssl.create_default_context(cafile=str(tls.ca_file) if tls.ca_file else None)
    except OSError as error:  # ssl.SSLError is one
        raise _tls_files_error("ca_file", f"mqtt.tls.ca_file {tls.ca_file}", error) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 sets this flag by default, and the certificates of many factories' own CAs do not pass.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.alpn:
        context.set_alpn_protocols(list(tls.alpn))
    if tls.cert_file and tls.key_file:
        _load_certificate(context, tls.cert_file, tls.key_file, tls.key_password)
    return context


def _load_certificate(context: ssl.SSLContext, cert: Path, key: Path, key_password: SecretStr | None) -> None:
    asked = False

    def password() -> str:
        # Without this callback OpenSSL would ask on the terminal, and wait there.
        nonlocal asked
        asked = True
        return key_password.get_secret_value() if key_password else ""

    try:
        context.load_cert_chain(str(cert), str(key), password)
    except (OSError, ValueError) as error:
        mismatch = isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH"
        kind = "key_mismatch" if mismatch else "key_password" if asked else "cert_file"
        raise _tls_files_error(kind, f"mqtt.tls.cert_file {cert}, mqtt.tls.key_file {key}", error) from error


def _tls_files_error(cause_key: str, files: str, error: Exception) -> ConfigurationError:
    reason = getattr(error, "strerror", None) or str(error)
    return ConfigurationError(
        f"the TLS files cannot be used: {files}: {reason}",
        hint=f"{CAUSES[cause_key].description}: {CAUSES[cause_key].hint}",
    )


def connect_options(settings: Settings, client_id: str, *, receive_maximum: int = 65535) -> ConnectOptions:
    """Return the options of a connection under `client_id` with these settings."""
    mqtt = settings.mqtt
    return ConnectOptions(
        host=mqtt.host,
        port=mqtt.port,
        client_id=client_id,
        engine=mqtt.client,
        protocol=mqtt.protocol,
        websocket_path=mqtt.websocket_path if mqtt.transport == "websockets" else None,
        username=mqtt.username,
        password=mqtt.password.get_secret_value() if mqtt.password else None,
        tls=tls_context(settings),
        server_name=mqtt.tls.server_name,
        has_client_certificate=mqtt.use_tls and mqtt.tls.cert_file is not None,
        clean_start=mqtt.ephemeral,
        session_expiry=0 if mqtt.ephemeral else mqtt.session_expiry,
        receive_maximum=receive_maximum,
        keep_alive=mqtt.keep_alive,
        connect_timeout=mqtt.connect_timeout,
        max_packet_size=mqtt.max_packet_size,
    )
