"""`subscribe --processes N` against a broker that plays EMQX: an offline persistent member of a group keeps getting its share."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mqtt5
import pytest

from tests.commands import Background, Commands
from tests.fakes import FakeBroker, InThread
from tests.processes import all_gone, children, events, registries
from tests.services import eventually

pytestmark = pytest.mark.timeout(450)

SECRET = "hush-hush-this-is-a-secret-of-32-bytes"


class Place:
    """A broker, a SQLite database and a state folder, and the commands that use them."""

    def __init__(self, broker: InThread[FakeBroker], folder: Path) -> None:
        self.broker = broker
        self.folder = folder
        self.log = folder / "subscriber.log"
        self.published = 0
        self._environment = {
            "MQTT_BROKER": f"127.0.0.1:{broker.port}",
            "SENSORSYNC_MQTT__INSTANCE": "me",
            "SENSORSYNC_MQTT__CONNECTIONS": "2",
            "SENSORSYNC_MQTT__BACKOFF_MIN": "50ms",
            "SENSORSYNC_DATABASE__DRIVER": "sqlite",
            "SENSORSYNC_DATABASE__PATH": str(folder / "readings.sqlite"),
            "SENSORSYNC_STATE_DIR": str(folder / "state"),
            "SENSORSYNC_SIGNING_KEY": SECRET,
            "SENSORSYNC_LOG__FORMAT": "json",
            "SENSORSYNC_PIPELINE__STATUS_INTERVAL": "500ms",
        }
        self.commands().run("init-db")

    def commands(self, **more: str) -> Commands:
        return Commands({**self._environment, **more})

    @contextmanager
    def subscriber(self, processes: int, *words: str, **more: str) -> Iterator[Background]:
        """A subscriber that runs, all of its processes subscribed (their logs tell it)."""
        self.log.write_text("")
        command = self.commands(**more).start(self.log, "subscribe", "--processes", str(processes), *words)
        with command as process:
            if more.get("LOG_LEVEL") != "WARNING":
                process.logged('"event": "all_connected"' if processes > 1 else '"event": "connected"', 40)
            yield process

    def publish(self, messages: int) -> None:
        """A run of its own, acknowledged by the broker to the last message."""
        self.published += 1
        words = ("--messages", str(messages), "--run", f"r{self.published}", "--processes", "1", "--clients", "4")
        assert self.commands().run("stress-publish", *words, "--json").data["acked"] == messages

    def audit(self) -> None:
        """Nothing of any run is missing, or twice, or corrupt."""
        for run in range(1, self.published + 1):
            data = self.commands().run("audit", f"r{run}", "--json").data
            assert (data["missing"], data["corrupt"], data["duplicates"]) == (0, 0, 0)

    def sessions(self) -> list[str]:
        return sorted(self.broker.do(lambda broker: list(broker.sessions)))

    def waiting(self) -> int:
        """Messages that the broker holds and nobody has acknowledged."""
        return self.broker.do(lambda broker: sum(len(s.undelivered()) for s in broker.sessions.values()))

    def returned(self, process: Background, number: int) -> None:
        """Return once this process of the subscriber is subscribed for the second time; else its log says why it is not."""
        back = time.monotonic() + 40
        while len(events(self.log, "connected", process_number=number)) < 2:
            assert process.running, f"all ended:\n{self.log.read_text()}"
            assert time.monotonic() < back, f"process {number} is not back:\n{self.log.read_text()}"
            time.sleep(0.01)

    def drained(self) -> None:
        """Return once everything is acknowledged."""
        eventually(lambda: self.waiting() == 0, "everything stored", 30)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with InThread(FakeBroker(window=32, receive_max=32, queue_limit=None)) as broker:
        yield Place(broker, tmp_path)


def ids(processes: int, instance: str = "me") -> list[str]:
    return [f"sensorsync-{instance}-{process}-{link}" for process in range(processes) for link in range(2)]


def test_scaling_down_and_up_strands_nothing_in_a_session(place: Place) -> None:
    with place.subscriber(3) as three:
        assert sorted(children(three.pid)) == [0, 1, 2]
        place.publish(900)
        place.drained()
        assert three.terminate() == 0
    assert place.sessions() == ids(3)
    place.publish(900)
    assert place.waiting() == 900, "each of the six offline members got its share"

    with place.subscriber(1) as one:
        eventually(lambda: place.sessions() == ids(1), "the end of the other sessions", 30)
        place.publish(300)
        place.drained()
        assert one.terminate() == 0
    assert registries(place.folder / "state") == [f"sensorsync-me-0_127.0.0.1-{place.broker.port}.json"]

    with place.subscriber(2) as two:
        place.publish(300)
        place.drained()
        assert two.terminate() == 0
    assert place.sessions() == ids(2)
    place.audit()


@pytest.mark.long
def test_the_status_and_the_end_are_those_of_all_processes_together(place: Place) -> None:
    with place.subscriber(2, "--until-idle", "4s") as process:
        place.publish(2000)
        done = process.finish()

    assert done.exit_code == 0
    end = events(place.log, "stopped")
    assert len(end) == 1
    assert (end[0]["stored"], end[0]["received"], end[0]["unacknowledged"]) == (2000, 2000, 0)
    assert (end[0]["processes"], end[0]["restarts"], end[0]["stopped_by"]) == (2, 0, "idle")
    shares = [event["stored"] for event in events(place.log, "process_stopped")]
    assert sum(shares) == 2000
    assert min(shares) > 0
    status = events(place.log, "status")
    assert max(one["landed"] for one in status) == 2000
    assert all("Workers: 4 |" in one["message"] and "process_number" not in one for one in status)
    # ... and what a process says is told with its number
    assert {event["process_number"] for event in events(place.log, "connected")} == {0, 1}
    assert events(place.log, "connected", process_number=1)[0]["message"].startswith("[P1] ")


def test_quiet_logs_do_not_make_the_supervisor_blind(place: Place) -> None:
    with place.subscriber(2, "--until-idle", "3s", LOG_LEVEL="WARNING") as process:
        eventually(lambda: len(place.sessions()) == 4, "four sessions", 30)
        assert process.finish().exit_code == 0
    assert place.log.read_text() == ""


def test_a_process_that_is_killed_comes_back_and_the_others_go_on(place: Place) -> None:
    with place.subscriber(3) as process:
        before = children(process.pid)
        os.kill(before[1], signal.SIGKILL)
        place.publish(900)
        place.returned(process, 1)
        place.drained()
        after = children(process.pid)
        assert (after[0], after[2]) == (before[0], before[2])
        assert process.terminate() == 0

    died = events(place.log, "process_died")
    assert [(event["process_number"], event["exit_code"]) for event in died] == [(1, -9)]
    assert "was terminated by SIGKILL" in died[0]["message"]
    end = events(place.log, "stopped")[0]
    assert (end["restarts"], end["stored"] - end["redelivered"] <= 900) == (1, True)
    place.audit()


def test_a_crash_loop_of_one_is_loud_and_does_not_take_the_others_down(place: Place) -> None:
    with place.subscriber(2) as process:
        registry = place.folder / "state" / "sessions" / f"sensorsync-me-1_127.0.0.1-{place.broker.port}.json"
        sound = registry.read_text()
        registry.write_text("damaged")
        os.kill(children(process.pid)[1], signal.SIGKILL)
        process.logged('"event": "crash_loop"', 40)
        place.publish(600)
        loop = events(place.log, "crash_loop")[0]
        assert loop["level"] == "CRITICAL"
        assert "crashed 3 times in a row" in loop["message"]
        assert "is damaged" in loop["message"]

        registry.write_text(sound)
        place.returned(process, 1)
        place.drained()
        assert process.terminate() == 0
    place.audit()


def test_when_the_parent_is_killed_its_processes_are_gone_and_a_new_start_finds_the_way_free(place: Place) -> None:
    with place.subscriber(3) as process:
        pids = children(process.pid)
        process.kill()
        with place.subscriber(3) as again:  # at once: their locks must not be in the way
            all_gone(pids)
            place.publish(600)
            place.drained()
            assert again.terminate() == 0
    place.audit()


def test_the_second_signal_kills_all(place: Place) -> None:
    with place.subscriber(2, "--leave") as process:
        pids = children(process.pid)
        for pid in pids.values():
            os.kill(pid, signal.SIGSTOP)  # none of them will end softly
        process.send(signal.SIGTERM)
        time.sleep(0.3)
        assert process.running
        process.send(signal.SIGINT)
        eventually(lambda: not process.running, "the end of the parent")
        all_gone(pids)


def test_secrets_are_neither_in_the_command_line_nor_in_the_environment_of_a_process(
    place: Place, tmp_path: Path
) -> None:
    config = tmp_path / "sensorsync.yaml"
    config.write_text("mqtt:\n  username: sensors\n  password: swordfish-in-the-file\n")
    config.chmod(0o600)
    with place.subscriber(2, SENSORSYNC_CONFIG=str(config)) as process:
        for pid in children(process.pid).values():
            seen = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
            assert b"swordfish" not in seen
        assert process.terminate() == 0
    passwords = {
        packet.password for packet in place.broker.do(lambda b: b.packets(mqtt5.ConnectPacket)) if packet.username
    }
    assert passwords == {b"swordfish-in-the-file"}
    assert "swordfish" not in place.log.read_text()


@pytest.mark.parametrize(
    ("settings", "exit_code", "words"),
    [
        ({"MQTT_BROKER": "127.0.0.1:1"}, 3, "cannot be reached"),
        ({"SENSORSYNC_DATABASE__PATH": "/no/such/folder/readings.sqlite"}, 4, "/no/such/folder"),
        ({"SENSORSYNC_PIPELINE__PROCESSES": "0"}, 2, "pipeline.processes"),
    ],
)
def test_a_configuration_error_is_logged_once_and_stops_all_processes(
    place: Place, settings: dict[str, str], exit_code: int, words: str
) -> None:
    count = () if "SENSORSYNC_PIPELINE__PROCESSES" in settings else ("--processes", "3")
    done = place.commands(**settings, SENSORSYNC_LOG__FORMAT="text").run("subscribe", *count, check=False)

    assert done.exit_code == exit_code, done.err
    assert done.err.count("Error:") == 1, done.err
    assert words in done.err
    assert "Traceback" not in done.err
    assert not done.out
    assert place.sessions() == []


def test_a_second_instance_is_refused_before_any_of_its_processes_gets_a_session(place: Place) -> None:
    with place.subscriber(1) as first:
        second = place.commands().run("subscribe", "--processes", "3", check=False)
        assert second.exit_code == 6
        assert "mqtt.instance" in second.err
        assert place.sessions() == ids(1)
        assert first.terminate() == 0
    with place.subscriber(2) as first:
        assert place.commands().run("subscribe", check=False).exit_code == 6
        assert first.terminate() == 0


def test_a_second_instance_elsewhere_takes_over_and_the_first_does_not_fight(place: Place) -> None:
    with place.subscriber(2) as first:
        pids = children(first.pid)
        elsewhere = place.folder / "elsewhere.log"
        commands = place.commands(SENSORSYNC_STATE_DIR=str(place.folder / "elsewhere"))
        with commands.start(elsewhere, "subscribe", "--processes", "2") as second:
            done = first.finish(30)
            second.logged('"event": "all_connected"', 40)
            assert done.exit_code == 6
            assert len(events(place.log, "problem", code="session_taken_over")) == 1
            all_gone(pids)
            place.publish(300)
            place.drained()
            assert second.terminate() == 0
    place.audit()


def test_ending_the_sessions_includes_those_of_earlier_processes(place: Place) -> None:
    with place.subscriber(3) as three:
        assert three.terminate() == 0
    place.publish(600)
    with place.subscriber(2, "--leave") as two:
        place.publish(600)
        assert two.terminate(60) == 0
    assert place.sessions() == []
    assert registries(place.folder / "state") == []
    place.audit()


@pytest.mark.long
def test_a_process_that_is_down_is_started_once_more_to_end_its_sessions(place: Place) -> None:
    with place.subscriber(2, "--leave") as process:
        registry = place.folder / "state" / "sessions" / f"sensorsync-me-1_127.0.0.1-{place.broker.port}.json"
        sound = registry.read_text()
        registry.write_text("damaged")
        os.kill(children(process.pid)[1], signal.SIGKILL)
        process.logged('"event": "crash_loop"', 40)
        place.publish(600)
        registry.write_text(sound)
        assert process.terminate(60) == 0
    assert place.sessions() == []
    place.audit()


@pytest.mark.long
def test_another_instance_ends_its_sessions_only_when_it_is_stopped_itself(place: Place) -> None:
    with place.subscriber(2) as old:
        assert old.terminate() == 0
    with place.subscriber(2, SENSORSYNC_MQTT__INSTANCE="new") as new:
        place.publish(400)
        assert place.sessions() == sorted([*ids(2), *ids(2, "new")])
        with place.subscriber(1, "--leave", "--until-idle", "3s") as leaving:  # under the old name
            assert leaving.finish().exit_code == 0
        place.drained()
        assert place.sessions() == ids(2, "new")
        assert new.terminate() == 0
    place.audit()


@pytest.mark.long
def test_changing_group_and_topics_takes_the_old_subscriptions_back_in_every_process(place: Place) -> None:
    with place.subscriber(2) as before:
        assert before.terminate() == 0
    place.publish(400)
    changed = {"SENSORSYNC_MQTT__GROUP": "g2", "SENSORSYNC_MQTT__TOPICS": "sensors/live/#,other/#"}
    with place.subscriber(2, **changed) as after:
        place.publish(400)
        place.drained()
        subscriptions = place.broker.do(lambda b: [sorted(s.subscriptions) for s in b.sessions.values()])
        assert subscriptions == [["$share/g2/other/#", "$share/g2/sensors/live/#"]] * 4
        assert after.terminate() == 0
    place.audit()


@pytest.mark.long
def test_max_messages_ends_all_once_they_have_settled_so_many_together(place: Place) -> None:
    with place.subscriber(2, "--max-messages", "300") as process:
        place.publish(1000)
        assert process.finish().exit_code == 0
    end = events(place.log, "stopped")[0]
    assert end["stopped_by"] == "max-messages"
    assert 300 <= end["stored"] <= 1000
    with place.subscriber(2, "--until-idle", "3s") as rest:
        assert rest.finish().exit_code == 0
    place.audit()


def test_the_hidden_option_is_not_for_people(place: Place) -> None:
    done = place.commands().run("subscribe", "--process", "1", check=False)
    assert done.exit_code == 2
    assert "--processes" in done.err
    assert "--process " not in place.commands().run("subscribe", "--help").out.replace("--processes", "")
