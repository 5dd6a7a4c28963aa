"""The promise for messages that mappings read: a stream of all recipes with garbage in it, and kills on the way, counted exactly."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pymysql.cursors
import pytest
import yaml
from paho.mqtt.client import Client, MQTTMessageInfo, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from sensorsync.config import load
from tests.acceptance.mixed.garbage import MENDED, POISON, Garbage, garbage
from tests.acceptance.mixed.stream import Expected, Message, configuration, stream, take, target_table
from tests.commands import Background, Commands
from tests.conftest import Database, Mosquitto
from tests.letters import rejected_rows
from tests.services import eventually
from tests.target_tables import Ground

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1800)]

CONNECTED = '"event": "connected"'
GARBAGE = 100
"""One message in so many."""
ANSWERS = 1000
"""PUBACKs that the publisher waits for at a time."""


@dataclass
class Stream:
    """So many messages, every hundredth of them garbage, and what has to become of them."""

    count: int
    expected: Expected = field(default_factory=Expected)
    bad: dict[Message, Garbage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for one in self._pieces():
            if isinstance(one, Garbage):
                self.bad[one.message] = one
                take(self.expected, one.recipe, one.good)
            else:
                recipe, _, rows = one
                take(self.expected, recipe, rows)
        assert len(self.bad) == self.count // GARBAGE, "garbage that is not distinct"

    def __iter__(self) -> Iterator[Message]:
        return (one.message if isinstance(one, Garbage) else one[1] for one in self._pieces())

    def _pieces(self) -> Iterator[Garbage | tuple[str, Message, list[dict[str, Any]]]]:
        bad = self.count // GARBAGE
        good = stream(self.count - bad)
        for number in range(self.count):
            yield garbage(number // GARBAGE) if number % GARBAGE == 50 else next(good)


class Publisher(threading.Thread):
    """Publishes with QoS 1 by an independent client (paho), and counts the PUBACKs that say success.

    It waits before each of the messages in `gates` until it is let through, so that no stream is over before its kills.
    """

    def __init__(self, port: int, messages: Iterable[Message], gates: Iterable[int]) -> None:
        super().__init__(daemon=True)
        self.acked = 0
        self._port = port
        self._messages = messages
        self._gates = set(gates)
        self._open = threading.Semaphore(0)

    def go_on(self) -> None:
        self._open.release()

    def run(self) -> None:
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        client.on_publish = self._answered
        client.connect("127.0.0.1", self._port)
        client.loop_start()
        sent: list[MQTTMessageInfo] = []
        for number, message in enumerate(self._messages):
            if number in self._gates:
                self._open.acquire()
            sent.append(client.publish(message.topic, message.payload, qos=1))
            if len(sent) == ANSWERS:
                sent[0].wait_for_publish(60)
                del sent[: ANSWERS // 2]
        for one in sent:
            one.wait_for_publish(60)
        client.disconnect()
        client.loop_stop()

    def _answered(self, _client: object, _data: object, _id: int, reason: Any, _properties: object) -> None:
        self.acked += reason.value == 0  # 0x10: nobody was subscribed


class Place:
    """The database of the stream, with the table that one recipe writes to."""

    def __init__(self, database: Database, settings_file: Path) -> None:
        self._database = database
        self._ground = Ground(database)
        self.run(target_table(), POISON)
        self._ground.allow(*load(settings_file, {}, {}, settings_file.parent).settings.target_tables)

    def run(self, *statements: str) -> None:
        self._ground.run(*statements)

    def rows(self) -> int:
        """In both tables."""
        return sum(self._ground.count("sensor_readings", "machine_state"))

    def stored(self, expected: Expected) -> tuple[Expected, int]:
        """All that is stored, and how many of the rows differ from another one only in the time of arrival."""
        found, copies = Expected(), 0
        names = "device_id, metric, ts, value, value_text, unit"
        with self._database.connect(cursorclass=pymysql.cursors.SSCursor) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT {names} FROM sensor_readings")
            for device, metric, ts, value, text, unit in cursor:
                content = value if text is None else text, unit
                name = f"{device}|{metric}"
                if name in expected.by_arrival:
                    copies += name in found.by_arrival
                    found.by_arrival[name] = content
                else:
                    found.readings[f"{name}|{_time(ts)}"] = content
            cursor.execute("SELECT line, machine, measured_at, state, speed FROM machine_state")
            for line, machine, at, state, speed in cursor:
                found.states[f"{line}|{machine}|{_time(at)}"] = state, speed
        return found, copies


def _time(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S.%f}"


def letters(commands: Commands) -> list[dict[str, Any]]:
    """What is in the dead-letter box."""
    return list(map(json.loads, commands.run("dlq", "export", "-").out.splitlines()))


def differences(found: Expected, expected: Expected) -> list[str]:
    """The first of what is missing, too much, or another value; empty when there is no difference."""
    pairs = ((vars(found)[table], vars(expected)[table]) for table in ("readings", "by_arrival", "states"))
    wrong = (
        f"{name}: {have.get(name)} instead of {want.get(name)}"
        for have, want in pairs
        for name in have.keys() | want.keys()
        if have.get(name) != want.get(name)
    )
    return list(islice(wrong, 10))


def message_of(letter: dict[str, Any]) -> Message:
    return Message(letter["topic"], base64.b64decode(letter["payload"]))


@pytest.fixture
def commands(mosquitto: Mosquitto, database: Database, tmp_path: Path) -> Commands:
    (tmp_path / "sensorsync.yaml").write_text(yaml.safe_dump(configuration()), encoding="utf-8")
    return Commands(
        {
            "SENSORSYNC_CONFIG": str(tmp_path / "sensorsync.yaml"),
            "MQTT_BROKER": f"{mosquitto.host}:{mosquitto.port}",
            **database.environment(),
            "SENSORSYNC_STATE_DIR": str(tmp_path / "state"),
            "WORKER_BATCH_SIZE": "200",  # small batches: a kill meets many of them
        }
    )


@pytest.mark.parametrize("count", [20_000, pytest.param(200_000, marks=pytest.mark.long)])
def test_a_mixed_stream_of_all_recipes_with_garbage_and_kills_ends_with_every_row_stored_and_every_bad_message_parked(
    commands: Commands, mosquitto: Mosquitto, database: Database, tmp_path: Path, count: int
) -> None:
    sent = Stream(count)
    expected = sent.expected
    place = Place(database, tmp_path / "sensorsync.yaml")
    publisher = Publisher(mosquitto.port, sent, gates=(count // 2, count * 9 // 10))

    def subscriber(life: int) -> Background:
        return commands.start(tmp_path / f"subscriber-{life}.log", "--log-format", "json", "subscribe")

    running = subscriber(1)
    try:
        running.logged(CONNECTED)
        publisher.start()
        for life, share in ((2, 0.2), (3, 0.6)):
            rows = int(len(expected) * share)
            eventually(lambda rows=rows: place.rows() >= rows, f"{rows} rows", 240)  # type: ignore[misc]
            running.kill()
            publisher.go_on()
            running = subscriber(life)
        publisher.join(300)
        assert publisher.acked == count
        running.logged(CONNECTED)
        assert running.terminate() == 0, running.log.read_text()[-4000:]
    finally:
        running.kill()
    # Its session is still there, and has the rest. Then everything is stored or parked.
    ended = commands.run("subscribe", "--until-idle", "2s", timeout=300)
    assert "0 unacknowledged (the broker delivers them again)" in ended.err

    found, copies = place.stored(expected)
    assert differences(found, expected) == []
    assert copies <= count // 20  # of the kills: what was committed, and not yet acknowledged
    parked = letters(commands)
    assert len(parked) == len(sent.bad)
    for letter in parked:
        piece = sent.bad.pop(message_of(letter))
        assert letter["reason"] == piece.reason, letter
        assert rejected_rows(letter["message"]) == list(piece.bad or ()), letter
    assert not sent.bad


def test_the_letters_of_a_mixed_stream_are_replayed_without_a_trace_until_their_cause_is_mended(
    commands: Commands, mosquitto: Mosquitto, database: Database, tmp_path: Path
) -> None:
    place = Place(database, tmp_path / "sensorsync.yaml")
    pieces = [garbage(number) for number in range(36)]
    expected = Expected()
    for piece in pieces:
        take(expected, piece.recipe, piece.good)
    words = ("--log-format", "json", "subscribe", "--max-messages", str(len(pieces)))
    with commands.start(tmp_path / "subscriber.log", *words) as process:
        process.logged(CONNECTED)
        publisher = Publisher(mosquitto.port, [piece.message for piece in pieces], gates=())
        publisher.start()
        assert process.finish().exit_code == 0

    assert differences(place.stored(expected)[0], expected) == []
    dry = commands.run("dlq", "replay", "--dry-run", "--json", check=False)
    unreadable = [piece for piece in pieces if piece.reason != "database"]
    assert (dry.data["stored"], dry.data["refused"]) == (len(pieces) - len(unreadable), len(unreadable))

    again = commands.run("dlq", "replay", "--now", "--json", check=False)
    assert (again.data["stored"], again.data["refused"]) == (0, len(pieces))
    assert again.data["redelivered"] == len(expected)
    assert differences(place.stored(expected)[0], expected) == []

    place.run(*MENDED)
    mended = commands.run("dlq", "replay", "--now", "--json", check=False)
    assert (mended.data["stored"], mended.data["refused"]) == (len(pieces) - len(unreadable), len(unreadable))
    for piece in pieces:
        take(expected, piece.recipe, piece.later)
    assert differences(place.stored(expected)[0], expected) == []
    assert {message_of(letter) for letter in letters(commands)} == {piece.message for piece in unreadable}
