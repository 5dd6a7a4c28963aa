"""What docs/how-to/own-broker.md and tls.md say to write into mosquitto.conf: mosquitto takes it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import Certificates, Mosquitto, need
from tests.references import DOCS
from tests.services import free_port


def _lines(page: str, files: dict[str, Path]) -> list[str]:
    (text,) = re.findall(r"```conf\n(.*?)```", (DOCS / "how-to" / page).read_text(encoding="utf-8"), re.DOTALL)
    for written, there in files.items():
        text = text.replace(written, str(there))
    return re.sub(r"listener \d+", f"listener {free_port()} 127.0.0.1", text).splitlines()


def test_mosquitto_takes_the_settings_of_the_page_on_own_brokers(tmp_path: Path) -> None:
    need(Mosquitto)
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    lines = _lines("own-broker.md", {"/etc/mosquitto/passwords": passwords})
    with Mosquitto(options=lines) as broker:
        assert broker.answers()


def test_mosquitto_takes_the_settings_of_the_page_on_tls(certificates: Certificates) -> None:
    need(Mosquitto)
    folder = "/etc/mosquitto/certs/"
    files = {
        f"{folder}server.pem": certificates.server,
        f"{folder}server.key": certificates.server_key,
        f"{folder}clients-ca.pem": certificates.authority,
    }
    with Mosquitto(options=_lines("tls.md", files)) as broker:
        assert broker.answers()
