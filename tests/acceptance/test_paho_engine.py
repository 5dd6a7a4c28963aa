"""The promise on the second engine: MQTT 3.1.1 over a WebSocket over TLS, with a subscriber that is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.test_promise import KEY, stored
from tests.commands import Commands
from tests.conftest import Certificates, Database, Mosquitto, need
from tests.services import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.broker, pytest.mark.timeout(360)]

MESSAGES = 2_000


def test_over_secure_websockets_with_mqtt_3_1_1_a_killed_subscriber_loses_nothing(
    certificates: Certificates, database: Database, tmp_path: Path
) -> None:
    need(Mosquitto)
    database.prepare()
    log = tmp_path / "subscriber.log"
    with Mosquitto(tls=certificates, websockets=True, users={"sensors": "right"}) as broker:
        commands = Commands(
            {
                "MQTT_BROKER": f"localhost:{broker.secure_websocket_port}",
                "MQTT_USERNAME": "sensors",
                "MQTT_PASSWORD": "right",
                "CA_CERT_PATH": str(certificates.authority),
                "SENSORSYNC_MQTT__CLIENT": "paho",
                "SENSORSYNC_MQTT__PROTOCOL": "3.1.1",
                "SENSORSYNC_MQTT__TRANSPORT": "websockets",
                "SENSORSYNC_MQTT__CONNECTIONS": "4",
                **database.environment(),
                "SENSORSYNC_STATE_DIR": str(tmp_path / "state"),
                "SENSORSYNC_SIGNING_KEY": KEY,
                "SENSORSYNC_SECURITY__SIGNATURES": "required",
            }
        )
        assert commands.run("check-cloud", "--quick", "--json").data["ready"] is True
        with commands.start(log, "--log-format", "json", "subscribe") as first:
            first.logged('"event": "connected"')
            words = ("stress-publish", "--messages", str(MESSAGES), "--run", "wss", "--clients", "2", "--json")
            with commands.start(tmp_path / "publisher.log", *words) as publisher:
                eventually(lambda: stored(database) >= MESSAGES // 4, "progress", 60)
                first.kill()
                published = publisher.finish()
        assert (published.exit_code, published.data["acked"]) == (0, MESSAGES), published.err
        commands.run("subscribe", "--until-idle", "3s", "--leave")

    audit = commands.run("audit", "wss", "--json")
    assert (audit.data["stored"], audit.data["missing"], audit.data["corrupt"]) == (MESSAGES, 0, 0)
