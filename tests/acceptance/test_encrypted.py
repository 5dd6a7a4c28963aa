"""Everything encrypted and everybody known: mutual TLS, a verified database, readings signed and encrypted, and none is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sensorsync.config import DatabaseTlsSettings
from sensorsync.messages.envelope import generate_key
from tests.commands import Commands
from tests.conftest import Certificates, DatabaseServer, Mosquitto, need

pytestmark = [pytest.mark.acceptance, pytest.mark.broker, pytest.mark.database, pytest.mark.timeout(720)]

KEY_PASSWORD = "open sesame"


@contextmanager
def fortress(certificates: Certificates, folder: Path, content_key: str) -> Iterator[Commands]:
    """A broker that demands a client certificate and a password, a database whose accounts demand TLS, and our commands."""
    need(Mosquitto)
    need(DatabaseServer)
    with (
        Mosquitto(tls=certificates, client_certificates=True, users={"sensors": "right"}) as broker,
        DatabaseServer(tls=certificates) as database,
    ):
        database.prepare(tls=DatabaseTlsSettings(mode="verify-identity", ca_file=certificates.authority))
        yield Commands(
            {
                "MQTT_BROKER": f"localhost:{broker.tls_port}",
                "MQTT_USERNAME": "sensors",
                "MQTT_PASSWORD": "right",
                "CA_CERT_PATH": str(certificates.authority),
                "SENSORSYNC_MQTT__TLS__CERT_FILE": str(certificates.client),
                "SENSORSYNC_MQTT__TLS__KEY_FILE": str(certificates.encrypted_client_key(folder, KEY_PASSWORD)),
                "SENSORSYNC_MQTT__TLS__KEY_PASSWORD": KEY_PASSWORD,
                "SENSORSYNC_MQTT__TLS__ALPN": "mqtt",
                **database.environment(),
                "SENSORSYNC_DATABASE__TLS__MODE": "verify-identity",
                "SENSORSYNC_DATABASE__TLS__CA_FILE": str(certificates.authority),
                "SENSORSYNC_SIGNING_KEY": "a-test-key-of-at-least-32-bytes-of-length",
                "SENSORSYNC_SECURITY__SIGNATURES": "required",
                "SENSORSYNC_ENCRYPTION_KEY": content_key,
                "SENSORSYNC_SECURITY__ENCRYPTION": "required",
                "SENSORSYNC_STATE_DIR": str(folder / "state"),
            }
        )


def test_mutual_tls_sealed_readings_and_a_database_of_verified_identity_lose_nothing(
    certificates: Certificates, tmp_path: Path
) -> None:
    content_key = generate_key("content", "A256GCM").material.decode()
    with fortress(certificates, tmp_path, content_key) as commands:
        by_authority = Commands({**commands.environment, "SENSORSYNC_DATABASE__TLS__MODE": "verify-ca"})
        signed_only = Commands({**commands.environment, "SENSORSYNC_ENCRYPTION_KEY": ""})
        signed_only.environment["SENSORSYNC_SECURITY__ENCRYPTION"] = "off"
        assert commands.run("check-cloud", "--quick", "--json").data["ready"] is True
        with commands.start(tmp_path / "subscriber.log", "--log-format", "json", "subscribe") as subscriber:
            subscriber.logged('"event": "connected"')
            published = commands.run("stress-publish", "--messages", "20000", "--run", "tls", "--verify", "--json")
            signed = signed_only.run("stress-publish", "--messages", "5", "--run", "signed", "--json")
            subscriber.logged("preserved in DLQ")
            assert subscriber.terminate() == 0, subscriber.log.read_text()[-4000:]
        audit = by_authority.run("audit", "tls", "--json")
        letters = commands.run("dlq", "inspect", "--json").data["counts"]

    assert (published.data["signed"], published.data["encrypted"]) == (True, True)
    assert (published.data["acked"], published.data["stored"], published.data["missing"]) == (20_000, 20_000, 0)
    assert (audit.data["stored"], audit.data["missing"], audit.data["corrupt"]) == (20_000, 0, 0)
    # What is only signed is not let in: all that is stored was signed and encrypted.
    assert (signed.data["acked"], signed.data["encrypted"]) == (5, False)
    assert [(count["reason"], count["letters"]) for count in letters] == [("encryption", 5)]
    log = subscriber.log.read_text()
    assert "unencrypted" not in log + published.err
    for secret in ("sesame", content_key):
        assert secret not in log + published.out + published.err
