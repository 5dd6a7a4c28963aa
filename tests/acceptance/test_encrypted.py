"""Everything encrypted and everybody known: mutual TLS to the broker, a verified database, signed readings, and nothing missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import Commands
from tests.conftest import Certificates, DatabaseServer, Mosquitto, need

pytestmark = [pytest.mark.acceptance, pytest.mark.broker, pytest.mark.database, pytest.mark.timeout(240)]


def test_mutual_tls_signed_readings_and_a_database_of_verified_identity_lose_nothing(
    certificates: Certificates, tmp_path: Path
) -> None:
    need(Mosquitto)
    need(DatabaseServer)
    with (
        Mosquitto(tls=certificates, client_certificates=True, users={"sensors": "right"}) as broker,
        DatabaseServer(tls=certificates) as database,
    ):
        with database.connect() as root, root.cursor() as cursor:
            cursor.execute(f"ALTER USER '{database.user}'@'%' REQUIRE SSL")
        commands = Commands(
            {
                "MQTT_BROKER": f"localhost:{broker.tls_port}",
                "MQTT_USERNAME": "sensors",
                "MQTT_PASSWORD": "right",
                "CA_CERT_PATH": str(certificates.authority),
                "SENSORSYNC_MQTT__TLS__CERT_FILE": str(certificates.client),
                "SENSORSYNC_MQTT__TLS__KEY_FILE": str(certificates.encrypted_client_key(tmp_path, "open sesame")),
                "SENSORSYNC_MQTT__TLS__KEY_PASSWORD": "open sesame",
                "DB_HOST": database.host,
                "DB_PORT": str(database.port),
                "DB_USER": database.user,
                "DB_PASSWORD": database.password,
                "DB_NAME": database.name,
                "SENSORSYNC_DATABASE__TLS__MODE": "verify-identity",
                "SENSORSYNC_DATABASE__TLS__CA_FILE": str(certificates.authority),
                "SENSORSYNC_SIGNING_KEY": "a-test-key-of-at-least-32-bytes-of-length",
                "SENSORSYNC_SECURITY__SIGNATURES": "required",
                "SENSORSYNC_STATE_DIR": str(tmp_path / "state"),
            }
        )
        commands.run("init-db")
        assert commands.run("check-cloud", "--quick", "--json").data["ready"] is True
        with commands.start(tmp_path / "subscriber.log", "--log-format", "json", "subscribe") as subscriber:
            subscriber.logged('"event": "connected"')
            published = commands.run("stress-publish", "--messages", "20000", "--run", "tls", "--verify", "--json")
            assert subscriber.terminate() == 0, subscriber.log.read_text()[-4000:]
        audit = commands.run("audit", "tls", "--json")

    assert published.data["signed"] is True
    assert (published.data["acked"], published.data["stored"], published.data["missing"]) == (20_000, 20_000, 0)
    assert (audit.data["stored"], audit.data["missing"], audit.data["corrupt"]) == (20_000, 0, 0)
    log = subscriber.log.read_text()
    assert "unencrypted" not in log + published.err
    assert "sesame" not in log + published.out + published.err
