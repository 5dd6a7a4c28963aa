"""Each thing a user can get wrong: one clear sentence, what to do, the documented exit code, and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.test_promise import commands_for, subscriber
from tests.conftest import Database, Mosquitto
from tests.services import free_port

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(540)]


@pytest.mark.parametrize(
    ("wrong", "exit_code", "sentence", "fix"),
    [
        ({"MQTT_BROKER": "no-such-host.invalid:1883"}, 3, "no-such-host.invalid:1883 cannot be reached", "mqtt.host"),
        ({"MQTT_BROKER": "127.0.0.1:{free}"}, 3, "cannot be reached", "mqtt.port"),
        ({"MQTT_USERNAME": "sensors", "MQTT_PASSWORD": "wrong"}, 3, "not authorized", "mqtt.password"),
        ({"DB_HOST": "no-such-host.invalid"}, 4, "no-such-host.invalid", "DB_HOST"),
        ({"DB_PORT": "{free}"}, 4, "refused", "DB_"),
        ({"DB_PASSWORD": "wrong"}, 4, "Access denied", "DB_PASSWORD"),
        ({"DB_NAME": "no_such_database"}, 4, "no_such_database", "init-db"),
        ({"SENSORSYNC_DEAD_LETTERS__PATH": "{file}/below/box.sqlite"}, 4, "dead-letter box", "dead_letters.path"),
        (
            {"SENSORSYNC_STATE_DIR": "{file}/below", "SENSORSYNC_DEAD_LETTERS__PATH": "{folder}/box"},
            2,
            "folder",
            "state_dir",
        ),
        ({"SENSORSYNC_CONFIG": "{bad_yaml}"}, 2, "not valid YAML", "line 3"),
        ({"SENSORSYNC_CONFIG": "{unknown_key}"}, 2, "mqtt.hots is no key", "did you mean host"),
        ({"SENSORSYNC_CONFIG": "{folder}/none.yaml"}, 2, "none.yaml", ""),
        ({"SENSORSYNC_MQTT__HOTS": "x"}, 2, "SENSORSYNC_MQTT__HOTS", "SENSORSYNC_MQTT__HOST"),
        ({"WORKER_BATCH_SIZE": "many"}, 2, "WORKER_BATCH_SIZE", ""),
        ({"CA_CERT_PATH": "{folder}/none.pem"}, 2, "TLS files", "mqtt.tls.ca_file"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_what_is_wrong_is_said_in_one_sentence_with_the_fix(
    database: Database, tmp_path: Path, wrong: dict[str, str], exit_code: int, sentence: str, fix: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "bad.yaml").write_text("mqtt:\n  host: [1\n")
    (tmp_path / "unknown.yaml").write_text("mqtt:\n  hots: broker\n")
    places = {
        "free": str(free_port()),
        "file": str(tmp_path / "file"),
        "folder": str(tmp_path),
        "bad_yaml": str(tmp_path / "bad.yaml"),
        "unknown_key": str(tmp_path / "unknown.yaml"),
    }
    with Mosquitto(users={"sensors": "right"}) as broker:
        commands = commands_for(broker, database, tmp_path / "state", MQTT_USERNAME="sensors", MQTT_PASSWORD="right")
        database.prepare()
        commands.environment |= {name: value.format(**places) for name, value in wrong.items()}

        done = commands.run("subscribe", "--until-idle", "1s", check=False)

    assert done.exit_code == exit_code, done.err
    assert sentence in done.err
    assert fix in done.err
    assert "Traceback" not in done.err
    assert not done.out


def test_a_missing_table_is_refused_before_anything_is_taken_from_the_broker(
    mosquitto: Mosquitto, database: Database, tmp_path: Path
) -> None:
    database.without_tables()

    done = commands_for(mosquitto, database, tmp_path).run("subscribe", check=False)

    assert done.exit_code == 4
    assert "sensorsync init-db" in done.err


def test_a_second_subscriber_of_the_same_instance_is_refused_and_the_first_goes_on(
    mosquitto: Mosquitto, database: Database, tmp_path: Path
) -> None:
    commands = commands_for(mosquitto, database, tmp_path / "state")
    database.prepare()
    with subscriber(commands, tmp_path / "first.log") as first:
        second = commands.run("subscribe", check=False)
        assert second.exit_code == 6
        assert "mqtt.instance" in second.err
        assert first.running
        assert first.terminate() == 0


def test_a_table_dropped_under_the_running_subscriber_stops_it_with_exit_4_and_nothing_acknowledged(
    mosquitto: Mosquitto, database: Database, tmp_path: Path
) -> None:
    from tests.bad_input import GOOD_READING, publish  # noqa: PLC0415

    commands = commands_for(
        mosquitto, database, tmp_path / "state", SENSORSYNC_SECURITY__SIGNATURES="off", SENSORSYNC_MQTT__TOPICS="t/#"
    )
    database.prepare()
    with subscriber(commands, tmp_path / "subscriber.log") as process:
        with database.connect() as connection, connection.cursor() as cursor:
            cursor.execute("RENAME TABLE sensor_readings TO elsewhere")
        publish(mosquitto.port, [GOOD_READING])
        assert process.finish().exit_code == 4
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("RENAME TABLE elsewhere TO sensor_readings")

    # What was not acknowledged comes again, perhaps before all links are up.
    commands.run("subscribe", "--max-messages", "1", timeout=60)
