"""`check-cloud` on brokers that are well, or nearly: what it finds, what it warns of, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mqtt5
import pytest

from sensorsync.commands import check_cloud
from sensorsync.commands.result import CommandResult
from sensorsync.config import Settings
from sensorsync.config import checks as exposure
from sensorsync.errors import UsageError
from sensorsync.mqtt.check import Step
from tests.commands import Commands
from tests.conftest import Certificates, Mosquitto, need, not_installed
from tests.fakes import Answering, FakeBroker, InThread

pytestmark = pytest.mark.broker


@pytest.fixture
def broker() -> Iterator[InThread[FakeBroker]]:
    with InThread(FakeBroker()) as running:
        yield running


def check(options: check_cloud.CheckOptions | None = None, **mqtt: Any) -> CommandResult:
    settings = Settings.model_validate({"mqtt": {"host": "127.0.0.1", **mqtt}})
    return asyncio.run(check_cloud.run(settings, options or check_cloud.CheckOptions(probes=5)))


def warnings(result: CommandResult) -> dict[str, str]:
    return {one["key"]: one["message"] for step in result.data["steps"] for one in step["warnings"]}


def facts(result: CommandResult, step: str) -> dict[str, Any]:
    return next(dict(one["facts"]) for one in result.data["steps"] if one["step"] == step)


def test_a_healthy_tls_broker_with_mutual_authentication_passes_in_under_five_seconds(
    certificates: Certificates, tmp_path: Path
) -> None:
    need(Mosquitto)
    key = certificates.encrypted_client_key(tmp_path, "sesame")
    with Mosquitto(tls=certificates, client_certificates=True) as broker:
        commands = Commands(
            {
                "MQTT_BROKER": f"localhost:{broker.tls_port}",
                "CA_CERT_PATH": str(certificates.authority),
                "SENSORSYNC_MQTT__TLS__CERT_FILE": str(certificates.client),
                "SENSORSYNC_MQTT__TLS__KEY_FILE": str(key),
                "SENSORSYNC_MQTT__TLS__KEY_PASSWORD": "sesame",
            }
        )
        began = time.monotonic()
        done = commands.run("check-cloud")
        seconds = time.monotonic() - began

    assert seconds < 15
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[0] == f"Broker mqtts://localhost:{broker.tls_port}, topic sensors/test/connectivity"
    assert [line.split()[:2] for line in lines[1:-1]] == [["ok", step.label] for step in Step]
    assert "TLSv1.3" in done.out
    assert "issued by trustme" in done.out
    assert "20 round trips, 0 lost" in done.out
    assert lines[-1].startswith("Ready: the broker does all that the pipeline needs.")


def test_the_envelope_has_every_step_with_its_facts(broker: InThread[FakeBroker]) -> None:
    commands = Commands({"MQTT_BROKER": f"127.0.0.1:{broker.port}"})

    done = commands.run("check-cloud", "--json", "--probes", "7", "--topic", "checks/here")

    data = done.data
    assert done.envelope["ok"] is True
    assert [step["step"] for step in data["steps"]] == [str(step) for step in Step]
    assert (data["broker"], data["tls"], data["topic"], data["ready"]) == (
        f"127.0.0.1:{broker.port}",
        False,
        "checks/here",
        True,
    )
    by_name = {step["step"]: step for step in data["steps"]}
    assert by_name["tls"]["status"] == "skipped"
    assert all(step["seconds"] >= 0 for step in data["steps"])
    publish = by_name["publish"]["facts"]
    assert (publish["probes"], publish["lost"]) == (7, 0)
    trip = publish["round_trip_seconds"]
    assert 0 < trip["p50"] <= trip["p99"] <= trip["max"]
    assert sum(by_name["share"]["facts"]["dealt"]) == 10
    assert by_name["persistence"]["facts"] == {"session_present": True, "queued_delivered": True}
    window = by_name["window"]["facts"]
    assert (window["window"], window["at_least"], window["receive_maximum"]) == (32, False, 4000)


def test_quick_leaves_out_sessions_and_the_window(broker: InThread[FakeBroker]) -> None:
    result = check(check_cloud.CheckOptions(quick=True), port=broker.port)

    assert result.exit_code == 0
    skipped = [step["step"] for step in result.data["steps"] if "--quick" in step["summary"]]
    assert skipped == ["persistence", "window"]
    assert "not looked at" in result.data["verdict"]
    clients = {seen.client_id.rpartition("-")[2] for seen in broker.do(lambda b: list(b.seen))}
    assert clients == {"login", "subscriber", "access", "publisher", "0", "1"}


@pytest.mark.parametrize("fault", [{}, {"session_present": False}, {"queue_limit": 0}, {"withhold_suback": True}])
def test_no_session_is_left_behind_whatever_happens(broker: InThread[FakeBroker], fault: dict[str, Any]) -> None:
    broker.set(**fault)

    check(port=broker.port, connect_timeout=5)

    assert broker.do(lambda b: b.sessions) == {}


def test_a_running_subscriber_of_the_real_topics_loses_nothing_to_the_check(broker: InThread[FakeBroker]) -> None:
    check(port=broker.port, topics=["sensors/live/#"], group="plant")

    subscribed = {
        one.pattern for packet in broker.do(lambda b: b.packets(mqtt5.SubscribePacket)) for one in packet.topic_filters
    }
    shared = {pattern for pattern in subscribed if pattern.startswith("$share/")}
    assert "sensors/live/#" in subscribed
    assert len(shared) == 1
    assert shared.pop().startswith("$share/plant-check-")
    ids = {seen.client_id for seen in broker.do(lambda b: list(b.seen))}
    assert all(one.startswith("sensorsync-check-") for one in ids)


def test_two_checks_have_different_client_ids(broker: InThread[FakeBroker]) -> None:
    one, other = (facts(check(check_cloud.CheckOptions(quick=True), port=broker.port), "connect") for _ in range(2))

    assert one["client_id"] != other["client_id"]


def test_a_certificate_that_ends_soon_is_a_warning_and_no_failure(tmp_path: Path) -> None:
    need(Mosquitto)
    soon = Certificates.issue(tmp_path, "localhost", not_after=datetime.now(UTC) + timedelta(days=5, hours=1))
    with Mosquitto(tls=soon) as mosquitto:
        result = check(
            check_cloud.CheckOptions(quick=True),
            host="localhost",
            port=mosquitto.tls_port,
            tls={"ca_file": soon.authority},
        )

    assert result.exit_code == 0
    assert "in 5 days" in warnings(result)["certificate_expires_soon"]
    assert result.data["verdict"].startswith("Ready, with 1 warning:")


@pytest.mark.parametrize(("served", "ignored"), [(["mqtt"], False), ([], True)])
def test_alpn_is_offered_and_reported(certificates: Certificates, served: list[str], ignored: bool) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server, certificates.server_key)
    if served:
        context.set_alpn_protocols(served)
    with InThread(FakeBroker(ssl=context)) as broker:
        tls = {"ca_file": certificates.authority, "alpn": ["mqtt"]}
        result = check(check_cloud.CheckOptions(quick=True), host="localhost", port=broker.port, tls=tls)

    assert result.exit_code == 0
    assert facts(result, "tls")["alpn"] == (None if ignored else "mqtt")
    assert ("alpn_ignored" in warnings(result)) is ignored


def test_the_server_name_is_sent_and_checked(certificates: Certificates) -> None:
    asked: list[str | None] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server, certificates.server_key)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with InThread(FakeBroker(ssl=context)) as broker:
        tls = {"ca_file": certificates.authority, "server_name": "localhost"}
        result = check(check_cloud.CheckOptions(quick=True), host="127.0.0.1", port=broker.port, tls=tls)

    assert result.exit_code == 0
    assert set(asked) == {"localhost"}


def test_a_session_expiry_that_is_cut_and_a_topic_that_is_live_are_warnings(broker: InThread[FakeBroker]) -> None:
    broker.set(session_expiry=7200)

    result = check(port=broker.port, topics=["sensors/#"])

    assert result.exit_code == 0
    found = warnings(result)
    assert "2h, not 7d" in found["session_expiry_shortened"]
    assert "sensors/test/connectivity" in found["topic_is_live"]


def test_a_shared_subscription_with_one_favourite_is_a_warning() -> None:
    class Sticky(FakeBroker):
        def _route_shared(self, share: str, message: Any) -> bool:
            self.turns[share] = 0
            return super()._route_shared(share, message)

    with InThread(Sticky()) as broker:
        result = check(check_cloud.CheckOptions(quick=True), port=broker.port)

    assert result.exit_code == 0
    assert "10 of 10" in warnings(result)["share_one_sided"]


def test_a_broker_whose_window_is_tight_says_how_many_connections_would_fill_it(broker: InThread[FakeBroker]) -> None:
    broker.set(receive_max=32)

    result = check(port=broker.port)

    assert result.exit_code == 0
    assert "mqtt.max_connections: 125" in warnings(result)["window_tight"]
    window = facts(result, "window")
    assert (window["window"], window["connections"], window["in_flight"], window["demand"]) == (32, 64, 2048, 4000)


def test_a_password_in_the_clear_to_another_machine_is_a_warning(
    broker: InThread[FakeBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposure, "is_loopback", lambda _: False)

    result = check(check_cloud.CheckOptions(quick=True), port=broker.port, username="me", password="marker")

    assert result.exit_code == 0
    assert result.data["warnings"] == [
        {
            "key": "unencrypted",
            "message": "mqtt.password goes to 127.0.0.1 unencrypted: set mqtt.tls.enabled or port 8883.",
        }
    ]
    assert "with 1 warning" in result.data["verdict"]
    assert "marker" not in str(result.envelope())


def test_a_failure_is_reported_once_with_the_fix_and_exit_code_3(tmp_path: Path) -> None:
    done = Commands({"MQTT_BROKER": "no-such-host.invalid:1883"}).run("check-cloud", check=False)

    assert done.exit_code == 3
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[1].startswith("FAIL  Resolve")
    assert "Fix: check mqtt.host" in lines[2]
    assert lines[3].split() == ["-", "TCP", "not", "reached"]
    assert lines[-1].startswith("Not ready: Resolve failed; the name of the host is not known.")


def test_a_tls_file_that_is_missing_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    done = Commands({"CA_CERT_PATH": str(tmp_path / "none.pem")}).run("check-cloud", check=False)

    assert done.exit_code == 2
    assert "mqtt.tls.ca_file" in done.err
    assert done.out == ""


def test_a_topic_with_wildcards_is_refused() -> None:
    with pytest.raises(UsageError, match="--topic"):
        check(check_cloud.CheckOptions(topic="sensors/#"))


@pytest.mark.parametrize("command", ["check-cloud", "subscribe", "stress-publish"])
def test_tls_on_a_plaintext_port_fails_and_sends_nothing_in_the_clear(
    certificates: Certificates, tmp_path: Path, command: str
) -> None:
    listener = Answering()
    with InThread(listener) as running:
        environment = {
            "MQTT_BROKER": f"localhost:{running.port}",
            "MQTT_USERNAME": "marker-user",
            "MQTT_PASSWORD": "marker-password",
            "CA_CERT_PATH": str(certificates.authority),
            "SENSORSYNC_DATABASE__DRIVER": "sqlite",
            "SENSORSYNC_DATABASE__PATH": str(tmp_path / "readings.sqlite"),
            "SENSORSYNC_STATE_DIR": str(tmp_path / "state"),
        }
        commands = Commands(environment)
        commands.run("init-db")
        done = commands.run(command, check=False)

    assert done.exit_code == 3
    told = done.out + done.err
    assert "a port without TLS" in told or "does not speak TLS" in told
    assert "mqtt.port" in told
    received = bytes(listener.received)
    assert received[:3] == b"\x16\x03\x01"
    assert b"MQTT" not in received
    assert b"marker" not in received


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("subscribe", "--until-idle", "1s"), ["mqtt.password goes to", "database.password may go to"]),
        (("stress-publish", "--verify"), ["mqtt.password goes to", "database.password may go to"]),
        (("stress-publish",), ["mqtt.password goes to"]),
        (("check-cloud",), ["mqtt.password goes to"]),
        (("config", "check"), ["mqtt.password goes to", "database.password may go to"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_each_command_warns_of_the_credentials_that_it_would_send_in_the_clear(
    tmp_path: Path, words: tuple[str, ...], expected: list[str]
) -> None:
    commands = Commands(
        {
            "MQTT_BROKER": "no-such-broker.invalid:1883",
            "MQTT_USERNAME": "me",
            "MQTT_PASSWORD": "marker",
            "DB_HOST": "no-such-database.invalid",
            "DB_PASSWORD": "marker",
            "SENSORSYNC_STATE_DIR": str(tmp_path),
        }
    )

    done = commands.run(*words, check=False)

    told = done.out + done.err
    for text in ("mqtt.password goes to", "database.password may go to"):
        assert (text in told) is (text in expected), told
    assert "marker" not in told


def test_the_openssl_command_of_the_guide_says_that_all_is_well(certificates: Certificates) -> None:
    need(Mosquitto)
    if shutil.which("openssl") is None:
        not_installed("openssl is not on the PATH (Debian: apt-get install openssl)")
    guide = (Path(__file__).parents[2] / "docs/how-to/troubleshoot-connection.md").read_text(encoding="utf-8")
    line = next(line.strip() for line in guide.splitlines() if "openssl s_client" in line and "-CAfile" in line)
    with Mosquitto(tls=certificates) as mosquitto:
        words = line.removesuffix("</dev/null").replace("broker.example.com:8883", f"localhost:{mosquitto.tls_port}")
        words = words.replace("broker.example.com", "localhost").replace("ca.pem", str(certificates.authority))
        done = subprocess.run(
            words.split(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False
        )

    assert "Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr
