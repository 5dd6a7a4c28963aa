"""Dead letters and cron: real processes, a real database, killed, stopped and locked in the middle of it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.test_promise import stored, subscriber
from tests.bad_input import publish
from tests.commands import Background, Commands
from tests.conftest import Database, DatabaseServer, Mosquitto
from tests.letters import good, in_box, junk, left, park
from tests.services import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(540)]

CRONTAB = Path(__file__).parents[2] / "examples/cron/sensorsync.crontab"


def commands_for(database: Database, state: Path, **more: str) -> Commands:
    return Commands(
        {
            **database.environment("replayer"),
            "SENSORSYNC_STATE_DIR": str(state),
            "SENSORSYNC_LOG__FORMAT": "json",
            **more,
        }
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def box(state: Path) -> Path:
    return state / "dead-letters.sqlite"


def refuse(database: Database, every: int) -> None:
    """From now on the database refuses readings whose value is a multiple of `every`."""
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE sensor_readings ADD CONSTRAINT poison CHECK (MOD(value, {every}) <> 0)")


def cron_lines() -> list[str]:
    """The commands of the crontab (crontab(5): comments, NAME=value, five fields and a command)."""
    lines = [line.strip() for line in CRONTAB.read_text(encoding="utf-8").splitlines()]
    jobs = [line for line in lines if line and not line.startswith("#") and not re.match(r"\w+\s*=", line)]
    assert all("%" not in job for job in jobs), "cron takes % for a line's end"
    return [job.split(None, 5)[5] for job in jobs]


def cron(line: str, commands: Commands) -> subprocess.CompletedProcess[str]:
    """Run it as cron does: by /bin/sh, in another folder, with nothing on standard input."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": "/nonexistent",
        **{name: value for name, value in commands.environment.items() if re.match("DB_|SENSORSYNC_", name)},
    }
    return subprocess.run(
        ["/bin/sh", "-c", line],
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_lines_of_the_crontab_are_those_of_the_documentation() -> None:
    text = (CRONTAB.parents[2] / "docs/how-to/replay-dead-letters.md").read_text(encoding="utf-8")
    assert [
        line.split(None, 5)[5] for line in text.splitlines() if line.startswith(("    *", "    17"))
    ] == cron_lines()


def test_the_lines_of_the_crontab_store_what_can_be_stored_and_give_up_the_rest(
    database: Database, state: Path, box: Path
) -> None:
    # Given: 10,000 letters, of which 50 are no readings and 50 are refused by the database.
    attempts = 3
    commands = commands_for(
        database,
        state,
        SENSORSYNC_DEAD_LETTERS__MAX_ATTEMPTS=str(attempts),
        SENSORSYNC_DEAD_LETTERS__BACKOFF_MIN="1ms",
        SENSORSYNC_LOG__FORMAT="text",
    )
    database.prepare()
    refuse(database, 199)
    park(box, [good(number) for number in range(1, 9951)])
    park(box, [junk(number) for number in range(50)])
    assert left(box) == 10_000
    replay, purge = cron_lines()

    # When: cron comes by, as often as a letter may be tried.
    for attempt in range(1, attempts + 1):
        done = cron(replay, commands)

        # Then: each time the poison is refused again, which is exit code 5 and a mail.
        assert (done.returncode, done.stdout) == (5, ""), done.stderr
        assert "100 letters were refused again (" in done.stderr
        assert ("100 are quarantined now" in done.stderr) == (attempt == attempts)
        assert stored(database) == 9_900
    letters = in_box(box)
    assert len(letters) == 100
    assert {(letter.state, letter.attempts, len(letter.history)) for letter in letters} == {("quarantined", 3, 3)}
    assert sorted({letter.reason for letter in letters}) == ["database", "json"]

    # And: then there is nothing more to do, and no mail.
    done = cron(replay, commands)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    # And: what was given up is thrown away once it is old.
    assert cron(purge, commands).returncode == 0
    assert left(box) == 0


def test_a_replay_killed_five_times_loses_no_letter_and_counts_none_twice(
    database: Database, state: Path, box: Path, tmp_path: Path
) -> None:
    commands = commands_for(database, state, WORKER_BATCH_SIZE="100")
    database.prepare()
    refuse(database, 100)
    total, poison = 10_000, 100
    park(box, [good(number) for number in range(1, total + 1)])
    for kill in range(1, 6):
        with commands.start(tmp_path / "replay.log", "dlq", "replay", "--rate", "1000") as running:
            goal = total - kill * 1500
            eventually(lambda goal=goal: left(box) < goal or not running.running, f"progress {kill}", 60)  # type: ignore[misc]
            assert running.running, (tmp_path / "replay.log").read_text()[-2000:]
            running.kill()
        # What is not in the database is in the box; a batch that the kill fell into may be in both.
        assert total <= stored(database) + left(box) <= total + 2 * 100

    done = commands.run("dlq", "replay", "--json", check=False)

    assert done.exit_code in {0, 5}
    letters = in_box(box)
    assert (stored(database), len(letters)) == (total - poison, poison)
    assert {(letter.attempts, letter.state, len(letter.history)) for letter in letters} == {(1, "parked", 1)}
    assert commands.run("dlq", "replay", "--json").data["due"] == 0


def test_a_replay_and_a_subscriber_that_parks_do_not_get_into_each_others_way(
    mosquitto: Mosquitto, database: Database, state: Path, box: Path, tmp_path: Path
) -> None:
    commands = commands_for(
        database,
        state,
        MQTT_BROKER=f"{mosquitto.host}:{mosquitto.port}",
        SENSORSYNC_MQTT__TOPICS="t/#",
        WORKER_BATCH_SIZE="200",
    )
    database.prepare()
    park(box, [good(number) for number in range(8_000)])
    with subscriber(commands, tmp_path / "subscriber.log", "--max-messages", "1500") as subscribing:
        with commands.start(tmp_path / "replay.log", "dlq", "replay", "--json", "--rate", "4000") as replaying:
            eventually(lambda: stored(database) > 0, "the replay at work", 30)
            publish(mosquitto.port, [junk(number).payload for number in range(1500)], "t/junk")
            done = replaying.finish()
        assert (done.exit_code, done.data["stored"], done.data["left"]) == (0, 8_000, 0), done.err
        assert subscribing.finish().exit_code == 0
    letters = in_box(box)
    assert len(letters) == 1500
    assert {letter.attempts for letter in letters} == {0}, "what came during the replay waits for the next"
    assert stored(database) == 8_000
    assert "kept" not in (tmp_path / "subscriber.log").read_text()


def replaying(commands: Commands, log: Path, box: Path, *words: str) -> Background:
    """A replay that is at work, and will be for a while."""
    before = left(box)
    running = commands.start(log, "dlq", "replay", "--rate", "50", *words)
    eventually(lambda: left(box) < before or not running.running, "the first batch", 30)
    assert running.running, log.read_text()
    return running


def test_a_second_replay_is_refused_or_waits_and_a_signal_ends_the_first_softly(
    database: Database, state: Path, box: Path, tmp_path: Path
) -> None:
    commands = commands_for(database, state)
    database.prepare()
    park(box, [good(number) for number in range(3_000)])
    with replaying(commands, tmp_path / "first.log", box, "--json") as first:
        refused = commands.run("dlq", "replay", "--json", check=False)
        assert (refused.exit_code, refused.envelope["errors"][0]["code"]) == (6, "already_running")
        assert commands.run("dlq", "replay", "--dry-run", "--json").data["refused"] == 0, "it takes nothing out"
        with commands.start(tmp_path / "second.log", "dlq", "replay", "--wait", "--json") as second:
            first.send(signal.SIGTERM)
            ended = first.finish()
            assert (ended.exit_code, ended.data["stopped_by"]) == (5, "SIGTERM")
            assert ended.data["stored"] + ended.data["left"] == ended.data["due"] == 3_000
            waited = second.finish()
    assert (waited.exit_code, waited.data["stored"]) == (0, ended.data["left"])
    assert (stored(database), left(box)) == (3_000, 0)


def test_an_outage_ends_it_with_4_and_leaves_every_letter_as_it_was(
    private_database_server: DatabaseServer, state: Path, box: Path, tmp_path: Path
) -> None:
    server = private_database_server
    database = Database(server, server.name)
    commands = commands_for(database, state, SENSORSYNC_DATABASE__CONNECT_TIMEOUT="1s")
    database.prepare()
    park(box, [letter for number in range(1500) for letter in (good(number), junk(number))])
    # When the database dies under it ...
    with replaying(commands, tmp_path / "replay.log", box, "--json") as running:
        server.kill()
        ended = running.finish()
    # ... what was stored is gone from the box, what was refused was counted, and the rest is as it was.
    assert ended.exit_code == 4, ended.err
    assert ended.envelope["errors"][0]["code"] == "database"
    data = ended.data
    assert data["left"] == data["due"] - data["stored"] - data["refused"] > 0
    letters = in_box(box)
    assert len(letters) == 3_000 - data["stored"]
    assert sum(letter.attempts for letter in letters) == data["refused"]
    # When it is not there from the beginning, nothing happens at all.
    before = box_content(box)
    away = commands.run("dlq", "replay", "--now", "--json", check=False)
    assert (away.exit_code, away.envelope["errors"][0]["code"]) == (4, "database")
    assert box_content(box) == before
    # When it is back, all is stored.
    server.start()
    assert commands.run("dlq", "replay", "--json", check=False).data["left"] == 0
    assert stored(database) == 1500


def box_content(box: Path) -> str:
    return json.dumps([letter._asdict() for letter in in_box(box)], default=str)


def test_a_table_that_is_missing_ends_it_with_4_before_a_letter_is_touched(
    database: Database, state: Path, box: Path
) -> None:
    commands = commands_for(database, state)
    database.without_tables()
    park(box, [good(1), junk(1)])
    before = box_content(box)
    done = commands.run("dlq", "replay", check=False)
    assert done.exit_code == 4
    assert "init-db" in done.err
    assert box_content(box) == before


def test_a_full_box_is_emptied_by_a_replay_and_by_a_purge(database: Database, state: Path, box: Path) -> None:
    commands = commands_for(database, state, SENSORSYNC_DEAD_LETTERS__MAX_SIZE="1MiB")
    database.prepare()
    for words in (("dlq", "replay", "--json"), ("dlq", "purge", "--all", "--yes", "--json")):
        park(box, [good(number, note="x" * 1000) for number in range(3_000)])
        assert box.stat().st_size > 2**20, "fuller than full"
        assert commands.run(*words).exit_code == 0
        assert (left(box), box.stat().st_size < 2**18) == (0, True)
    assert stored(database) == 3_000
