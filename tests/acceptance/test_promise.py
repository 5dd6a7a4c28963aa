"""The promise, proven by killing real processes under load: nothing that was acknowledged is missing."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands import Background, Commands
from tests.conftest import Database, Mosquitto
from tests.services import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(720)]

KEY = "a-test-key-of-at-least-32-bytes-of-length"


def commands_for(broker: Mosquitto, database: Database, state: Path, **more: str) -> Commands:
    return Commands(
        {
            "MQTT_BROKER": f"{broker.host}:{broker.port}",
            **database.environment(),
            "SENSORSYNC_STATE_DIR": str(state),
            "SENSORSYNC_SIGNING_KEY": KEY,
            "SENSORSYNC_SECURITY__SIGNATURES": "required",
            **more,
        }
    )


def stored(database: Database) -> int:
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM sensor_readings")
        row = cursor.fetchone()
        assert row is not None
        return int(row[0])


@contextmanager
def subscriber(commands: Commands, log: Path, *words: str) -> Iterator[Background]:
    log.write_text("")
    with commands.start(log, "--log-format", "json", "subscribe", *words) as process:
        process.logged('"event": "connected"')
        yield process


def test_the_subscriber_killed_five_times_under_load_loses_nothing(
    mosquitto: Mosquitto, database: Database, tmp_path: Path
) -> None:
    commands = commands_for(mosquitto, database, tmp_path / "state")
    database.prepare()
    log = tmp_path / "subscriber.log"
    messages = 80_000
    with commands.start(log, "subscribe") as first:
        first.logged("link(s)")
        publisher = commands.start(
            tmp_path / "publisher.log", "stress-publish", "--messages", str(messages), "--run", "kill", "--json"
        )
        with publisher:
            running = first
            for kill in range(1, 6):
                eventually(lambda kill=kill: stored(database) >= kill * messages // 8, f"progress {kill}", 60)  # type: ignore[misc]
                running.kill()
                running = commands.start(log, "subscribe")
            published = publisher.finish()
        assert published.exit_code == 0, published.err
        assert published.data["acked"] == messages
        eventually(lambda: stored(database) == messages, f"all rows:\n{log.read_text()[-4000:]}", 60)
        running.send(signal.SIGTERM)
        assert running.finish().exit_code == 0

    audit = commands.run("audit", "kill", "--json")

    assert audit.data["missing"] == 0
    assert audit.data["stored"] == stored(database) == messages
    assert audit.data["corrupt"] == 0


def test_what_a_default_broker_drops_is_named_exactly_and_the_audit_says_why(
    database: Database, tmp_path: Path
) -> None:
    with Mosquitto(max_queued_messages=1000) as broker:
        commands = commands_for(broker, database, tmp_path / "state", SENSORSYNC_MQTT__CONNECTIONS="1")
        database.prepare()
        log = tmp_path / "subscriber.log"
        with subscriber(commands, log) as process:
            assert process.terminate() == 0  # its session stays, and collects: 1000 messages, then the broker drops
        published = commands.run("stress-publish", "--messages", "5000", "--run", "drop", "--json")
        assert published.data["acked"] == 5000
        commands.run("subscribe", "--until-idle", "2s")

    audit = commands.run("audit", "drop", "--json", check=False)

    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT payload FROM sensor_readings WHERE device_id LIKE 'drop-%'")
        there = {(row["client"], row["seq"]) for (payload,) in cursor.fetchall() for row in [json.loads(payload)]}
    named = {
        (entry["client"], seq)
        for entry in audit.data["missing_ranges"]
        for seq in range(entry["first"], entry["last"] + 1)
    }
    assert 0 < len(there) < 5000
    assert audit.exit_code == 5
    assert audit.data["missing"] == len(named) == 5000 - len(there)
    assert not named & there
    assert "max_queued_messages" in audit.out


def test_sigterm_under_load_ends_softly_and_the_next_start_fetches_the_rest(
    mosquitto: Mosquitto, database: Database, tmp_path: Path
) -> None:
    commands = commands_for(mosquitto, database, tmp_path / "state")
    database.prepare()
    log = tmp_path / "subscriber.log"
    with subscriber(commands, log) as process:
        publisher = commands.start(
            tmp_path / "publisher.log", "stress-publish", "--messages", "30000", "--run", "term", "--json"
        )
        with publisher:
            eventually(lambda: stored(database) > 3000, "some rows", 30)
            assert process.terminate() == 0, log.read_text()[-4000:]
            assert publisher.finish().exit_code == 0
    end = json.loads(log.read_text().splitlines()[-1])
    assert end["event"] == "stopped"
    assert end["unacknowledged"] == 0
    commands.run("subscribe", "--until-idle", "3s")

    audit = commands.run("audit", "term", "--json")

    assert (audit.data["missing"], audit.data["stored"]) == (0, 30_000)
    # a soft stop writes and acknowledges what it took over: nothing had to be sent twice
    assert stored(database) == 30_000


def test_bad_messages_are_parked_with_their_reasons_and_the_rest_of_their_batch_is_stored(
    mosquitto: Mosquitto, database: Database, tmp_path: Path
) -> None:
    from tests.bad_input import BAD_MESSAGES, GOOD_READING, publish  # noqa: PLC0415

    commands = commands_for(
        mosquitto,
        database,
        tmp_path / "state",
        SENSORSYNC_SECURITY__SIGNATURES="optional",
        SENSORSYNC_MQTT__TOPICS="t/#",
    )
    database.prepare()
    with subscriber(commands, tmp_path / "subscriber.log", "--max-messages", str(1 + len(BAD_MESSAGES))) as process:
        publish(mosquitto.port, [GOOD_READING, *(payload for payload, _ in BAD_MESSAGES)])
        assert process.finish().exit_code == 0

    inspected = commands.run("dlq", "inspect", "--json", "--limit", "1000")

    reasons = sorted(letter["reason"] for letter in inspected.data["letters"])
    assert reasons == sorted(reason for _, reason in BAD_MESSAGES)
    assert stored(database) == 1
