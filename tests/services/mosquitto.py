"""A private mosquitto."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.services.certificates import Certificates
from tests.services.process import REAL_MYSQL, Server, free_port, which


class Mosquitto(Server):
    """A mosquitto broker: the one on the PATH, or what SENSORSYNC_TEST_MOSQUITTO names (a program, or a folder of real-mysql's).

    By default it queues without bound, because mosquitto drops *acknowledged* messages beyond 1000 a session; pass
    `max_queued_messages=1000` for what users have. `persistence` keeps sessions over `stop`, not over `kill`. `options` are further
    lines of mosquitto.conf. With `tls`, `tls_port` is a second listener (`client_certificates`: it demands one). With `websockets`,
    `websocket_port` is one more, and with both `secure_websocket_port`, too.
    """

    def __init__(
        self,
        *,
        max_queued_messages: int = 0,
        max_inflight: int | None = None,
        persistence: bool = False,
        users: Mapping[str, str] | None = None,
        tls: Certificates | None = None,
        client_certificates: bool = False,
        websockets: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.tls = tls
        self.tls_port = free_port()
        self.websocket_port = free_port()
        self.secure_websocket_port = free_port()
        lines = [
            f"max_queued_messages {max_queued_messages}",
            f"allow_anonymous {'false' if users else 'true'}",
            f"persistence {'true' if persistence else 'false'}",
            f"persistence_location {self.folder}/",
            "log_dest stdout",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # or it gives up root, and cannot read its folder
        if max_inflight is not None:
            lines.append(f"max_inflight_messages {max_inflight}")
        if users:
            passwords = self.folder / "passwords"
            passwords.write_text("".join(f"{name}:{_mosquitto_hash(word)}\n" for name, word in users.items()))
            passwords.chmod(0o600)
            lines.append(f"password_file {passwords}")
        lines += [*options, f"listener {self.port} 127.0.0.1"]
        secured = []
        if tls:
            secured = [f"certfile {tls.server}", f"keyfile {tls.server_key}", f"cafile {tls.authority}"]
            secured += [f"require_certificate {'true' if client_certificates else 'false'}"]
            lines += [f"listener {self.tls_port} 127.0.0.1", *secured]
        if websockets:
            lines += [f"listener {self.websocket_port} 127.0.0.1", "protocol websockets"]
        if websockets and tls:
            lines += [f"listener {self.secure_websocket_port} 127.0.0.1", "protocol websockets", *secured]
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    @classmethod
    def missing(cls) -> str | None:
        """What to install, or None when it can be started."""
        return None if cls._words() else "mosquitto is not on the PATH (Debian: apt-get install mosquitto)"

    @staticmethod
    def _words() -> list[str]:
        named = os.environ.get("SENSORSYNC_TEST_MOSQUITTO")
        if named and Path(named).is_dir():
            return [str(REAL_MYSQL), "mosquitto", named]
        program = named or which("mosquitto")
        return [program, "-c"] if program else []

    def command(self) -> Sequence[str]:
        return [*self._words(), str(self.folder / "mosquitto.conf")]

    def answers(self) -> bool:
        """Whether it answers a CONNECT (MQTT 3.1.1, 3.1); a refusal is an answer."""
        try:
            if not self._answers_connect(socket.create_connection((self.host, self.port), 1.0)):
                return False
            if self.tls is None:
                return True
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # a test may want a certificate that is wrong
            context.load_cert_chain(self.tls.client, self.tls.client_key)
            plain = socket.create_connection((self.host, self.tls_port), 1.0)
            return self._answers_connect(context.wrap_socket(plain, server_hostname="localhost"))
        except OSError:
            return False

    @staticmethod
    def _answers_connect(connection: socket.socket) -> bool:
        with connection:
            connection.settimeout(1.0)
            connection.sendall(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05ready")
            return connection.recv(1) == b"\x20"


def _mosquitto_hash(password: str) -> str:
    """What mosquitto_passwd writes: PBKDF2-HMAC-SHA512, 101 rounds."""
    salt = os.urandom(12)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    return f"$7$101${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"
