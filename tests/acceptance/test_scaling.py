"""Many processes on a real broker and database, scaled, killed and ended under load: nothing that was acknowledged is missing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.acceptance.test_promise import commands_for, stored
from tests.commands import Background, Commands
from tests.conftest import Database, Mosquitto
from tests.fakes import InThread, TcpProxy
from tests.processes import all_gone, children, events, registries, session_is_kept
from tests.services import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(720)]

MESSAGES = 12_000


class Scene:
    """A paced load of MESSAGES messages (4,000 a second), and the subscriber of one moment."""

    def __init__(self, broker: Mosquitto, database: Database, folder: Path) -> None:
        self.broker = broker
        self.database = database
        self.state = folder / "state"
        self.log = folder / "subscriber.log"
        settings = {
            "SENSORSYNC_LOG__FORMAT": "json",
            "SENSORSYNC_MQTT__INSTANCE": "me",
            "SENSORSYNC_MQTT__CONNECTIONS": "2",
            "SENSORSYNC_MQTT__BACKOFF_MIN": "50ms",
            "WORKER_BATCH_SIZE": "200",
        }
        self.commands = commands_for(broker, database, self.state, **settings)
        database.prepare()

    @contextmanager
    def subscriber(self, processes: int, *words: str) -> Iterator[Background]:
        """Runs, with all its processes subscribed."""
        self.log.write_text("")
        with self.commands.start(self.log, "subscribe", "--processes", str(processes), *words) as process:
            process.logged('"event": "all_connected"' if processes > 1 else '"event": "connected"', 40)
            yield process

    @contextmanager
    def instance(self, name: str, *words: str) -> Iterator[Background]:
        """One of several in the group, with this state folder, subscribed."""
        log = self.log.with_name(f"{name}.log")
        commands = Commands({**self.commands.environment, "SENSORSYNC_MQTT__INSTANCE": name})
        with commands.start(log, "subscribe", *words) as process:
            process.logged('"event": "connected"', 40)
            yield process

    @contextmanager
    def load(self, folder: Path) -> Iterator[Background]:
        """PUBACKs reach the publisher late: 4 x 50 messages each 0.05 s."""
        with InThread(TcpProxy(self.broker.port, delay_down=0.05)) as pace:
            publishing = commands_for(self.broker, self.database, self.state, MQTT_BROKER=f"127.0.0.1:{pace.port}")
            words = ("--messages", str(MESSAGES), "--run", "r", "--processes", "1", "--clients", "4", "--window", "50")
            with publishing.start(folder / "publisher.log", "stress-publish", *words, "--json") as publisher:
                yield publisher

    def reaches(self, rows: int) -> None:
        eventually(lambda: stored(self.database) >= rows, f"{rows} rows", 40)
        assert rows == MESSAGES or stored(self.database) < MESSAGES, "the load was over"

    def audit(self) -> None:
        data = self.commands.run("audit", "r", "--json").data
        assert (data["missing"], data["stored"]) == (0, MESSAGES)
        assert (data["corrupt"], data["duplicates"], stored(self.database)) == (0, 0, MESSAGES)


@pytest.fixture
def scene(mosquitto: Mosquitto, database: Database, tmp_path: Path) -> Scene:
    return Scene(mosquitto, database, tmp_path)


def test_of_three_instances_one_is_killed_for_good_and_another_takes_its_place_and_nothing_is_missing(
    scene: Scene, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        stay, remain, die = (stack.enter_context(scene.instance(name)) for name in ("one", "two", "three"))
        publisher = stack.enter_context(scene.load(tmp_path))
        scene.reaches(MESSAGES // 8)
        die.kill()  # ... and the broker goes on dealing its share into its sessions
        replacement = stack.enter_context(scene.instance("four", "--adopt", "three", "--processes", "2"))
        assert publisher.finish().data["acked"] == MESSAGES
        scene.reaches(MESSAGES)
        log = scene.log.with_name("four.log")
        eventually(lambda: len(events(log, "retired")) == 2, "the end of its two sessions", 30)
        assert [process.terminate() for process in (stay, remain, replacement)] == [0, 0, 0]
    assert not any(session_is_kept(scene.broker.port, f"sensorsync-three-0-{link}") for link in range(2))
    assert not any("three" in name for name in registries(scene.state))
    scene.audit()


@pytest.mark.long
def test_scaling_from_three_processes_to_one_to_two_under_load_loses_nothing(scene: Scene, tmp_path: Path) -> None:
    def registry(process: int) -> str:
        return f"sensorsync-me-{process}_127.0.0.1-{scene.broker.port}.json"

    with scene.subscriber(3) as three, scene.load(tmp_path) as publisher:
        scene.reaches(MESSAGES // 8)
        assert three.terminate() == 0
        assert registries(scene.state) == [registry(0), registry(1), registry(2)]

        with scene.subscriber(1) as one:
            scene.reaches(MESSAGES // 4)
            eventually(lambda: registries(scene.state) == [registry(0)], "the end of the other sessions", 30)
            assert one.terminate() == 0
        assert not session_is_kept(scene.broker.port, "sensorsync-me-2-1")

        with scene.subscriber(2) as two:
            assert publisher.finish().data["acked"] == MESSAGES
            scene.reaches(MESSAGES)
            assert two.terminate() == 0
    assert registries(scene.state) == [registry(0), registry(1)]
    scene.audit()


@pytest.mark.long
def test_processes_and_then_their_parent_killed_under_load_lose_nothing(scene: Scene, tmp_path: Path) -> None:
    with scene.subscriber(3) as process, scene.load(tmp_path) as publisher:
        for kill in range(3):
            scene.reaches((kill + 1) * MESSAGES // 10)
            victim = children(process.pid)[kill]
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: victim not in children(process.pid), "its end", 30)  # noqa: B023 - called at once
            eventually(lambda: len(children(process.pid)) == 3, "its return", 30)
        pids = children(process.pid)
        assert events(scene.log, "process_died", exit_code=-9)  # one that was killed while it started is told otherwise

        scene.reaches(MESSAGES // 2)
        process.kill()
        all_gone(pids)
        with scene.subscriber(3) as again:
            assert publisher.finish().data["acked"] == MESSAGES
            scene.reaches(MESSAGES)
            assert again.terminate() == 0
    scene.audit()


@pytest.mark.long
def test_a_crash_loop_of_one_process_under_load_loses_nothing_and_its_share_waits_for_it(
    scene: Scene, tmp_path: Path
) -> None:
    with scene.subscriber(2) as process:
        registry = scene.state / "sessions" / f"sensorsync-me-1_127.0.0.1-{scene.broker.port}.json"
        sound = registry.read_text()
        with scene.load(tmp_path) as publisher:
            scene.reaches(MESSAGES // 8)
            registry.write_text("damaged")
            os.kill(children(process.pid)[1], signal.SIGKILL)
            process.logged('"event": "crash_loop"', 40)
            assert publisher.finish().data["acked"] == MESSAGES
        registry.write_text(sound)
        scene.reaches(MESSAGES)
        assert process.terminate() == 0
    scene.audit()


@pytest.mark.long
def test_sigterm_under_load_ends_all_processes_softly_and_nothing_has_to_be_sent_twice(
    scene: Scene, tmp_path: Path
) -> None:
    with scene.subscriber(3) as process, scene.load(tmp_path) as publisher:
        scene.reaches(MESSAGES // 4)
        assert process.terminate() == 0
        assert publisher.finish().data["acked"] == MESSAGES
    end = events(scene.log, "stopped")[0]
    assert (end["stopped_by"], end["unacknowledged"], end["stored"]) == ("SIGTERM", 0, stored(scene.database))

    with scene.subscriber(3) as process:
        scene.reaches(MESSAGES)
        assert process.terminate() == 0
    assert events(scene.log, "stopped")[0]["redelivered"] == 0
    scene.audit()


@pytest.mark.long
def test_leaving_under_load_takes_out_what_the_sessions_hold_and_ends_every_one(scene: Scene, tmp_path: Path) -> None:
    with scene.subscriber(3) as three:
        assert three.terminate() == 0
    with scene.load(tmp_path) as publisher:  # into the sessions of three processes
        assert publisher.finish().data["acked"] == MESSAGES
    with scene.subscriber(2, "--leave") as two:
        scene.reaches(MESSAGES // 8)
        assert two.terminate(60) == 0
    assert registries(scene.state) == []
    for process in range(3):
        for link in range(2):
            assert not session_is_kept(scene.broker.port, f"sensorsync-me-{process}-{link}")
    scene.audit()
