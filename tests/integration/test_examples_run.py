"""What the examples for Docker and GitHub Actions run, run here: against a private broker and database, without containers."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from sensorsync.config import Settings
from sensorsync.deadletters import DeadLetters
from tests.commands import Commands
from tests.conftest import Database, Mosquitto
from tests.services import free_port

ROOT = Path(__file__).parents[2]
ENTRY_POINT = ROOT / "examples/docker/entrypoint.sh"
WORKFLOW = yaml.safe_load((ROOT / "examples/github-actions/smoke-test.yml").read_text())
PROGRAMS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
"""Where `sensorsync` is, as in the image."""

pytestmark = pytest.mark.timeout(360)


@pytest.fixture
def environment(mosquitto: Mosquitto, database: Database, tmp_path: Path) -> dict[str, str]:
    """What a compose file sets; passwords come as files."""
    with database.connect() as connection, connection.cursor() as cursor:  # as MYSQL_USER does in the image of MySQL
        cursor.execute("CREATE USER IF NOT EXISTS `of_the_image`@`%` IDENTIFIED BY 'sesame'")
        cursor.execute(f"GRANT ALL ON `{database.name}`.* TO `of_the_image`@`%`")
    secret = tmp_path / "database-password"
    secret.write_text("sesame\n")
    secret.chmod(0o400)
    return {
        "PATH": PROGRAMS,
        "MQTT_BROKER": f"{mosquitto.host}:{mosquitto.port}",
        "DB_HOST": database.host,
        "DB_PORT": str(database.port),
        "DB_USER": "of_the_image",
        "DB_NAME": database.name,
        "SENSORSYNC_DATABASE__PASSWORD_FILE": str(secret),
        "SENSORSYNC_STATE_DIR": str(tmp_path / "state"),
        "SENSORSYNC_SIGNING_KEY": "a-key-of-this-test-alone-32-bytes-or-more",
        "SENSORSYNC_LOG__FORMAT": "json",
        "HOSTNAME": "a1b2c3",
        "TOTAL_MESSAGES": "500",
        "CONCURRENCY": "1",
    }


def container(environment: dict[str, str], mode: str, **more: str) -> Commands:
    return Commands({**environment, "SERVICE_MODE": mode, **more}, ["bash", str(ENTRY_POINT)])


def test_each_mode_runs_its_command(environment: dict[str, str], database: Database, tmp_path: Path) -> None:
    created = container(environment, "init-db").run("--json")
    assert created.data["applied"]
    assert container(environment, "check-cloud").run("--quick", "--json").data["ready"] is True

    listen = f"127.0.0.1:{free_port()}"
    log = tmp_path / "subscriber.log"
    subscribing = container(environment, "subscribe", SENSORSYNC_METRICS__LISTEN=listen)
    assert subscribing.run("is-alive", check=False).exit_code != 0
    with subscribing.start(log) as subscriber:
        subscriber.logged('"event": "connected"')
        assert subscribing.run("is-alive").exit_code == 0
        load = container(environment, "stress-publish").run("--verify", "--json")
        assert (load.data["acked"], load.data["audit"]["missing"]) == (500, 0)
        assert subscriber.terminate() == 0, "the signal reaches sensorsync, not a shell before it"
    assert '"stopped_by": "SIGTERM"' in log.read_text()

    replayed = container(environment, "dlq-replay").run("--json")
    assert replayed.envelope["command"] == "dlq replay"
    assert container(environment, "subscribe").run("dlq", "inspect", "--json").envelope["command"] == "dlq inspect"


def test_containers_that_share_a_volume_have_names_and_states_of_their_own_and_keep_them(
    environment: dict[str, str], database: Database, tmp_path: Path
) -> None:
    container(environment, "init-db").run()
    many = {"MULTI_INSTANCE": "true"}
    first, second, later = tmp_path / "first.log", tmp_path / "second.log", tmp_path / "later.log"
    with (
        container(environment, "subscribe", **many).start(first) as one,
        container(environment, "subscribe", HOSTNAME="d4e5f6", **many).start(second) as two,
    ):
        one.logged('"event": "connected"')
        two.logged('"event": "connected"')
        assert slots(tmp_path / "state") in (
            {"1": "a1b2c3-1", "2": "d4e5f6-2"},
            {"1": "d4e5f6-1", "2": "a1b2c3-2"},
        )
        names = slots(tmp_path / "state")
        one.kill()
        with container(environment, "subscribe", HOSTNAME="made-anew", **many).start(later) as again:
            again.logged('"event": "connected"')
            assert slots(tmp_path / "state") == names, (
                "the container that was made anew goes on where the other one ended"
            )
            assert two.running
            assert again.terminate() == 0
        assert two.terminate() == 0
    for name in ("1", "2"):
        assert list((tmp_path / "state" / name / "sessions").glob("*.json"))


def slots(state: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text().strip() for path in state.glob("*/instance")}


def test_a_replay_goes_through_the_boxes_of_all_slots_and_tells_the_worst_of_their_ends(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/dead-letters.sqlite").write_bytes(b"no box at all " * 100)
    with closing(DeadLetters.from_settings(Settings(state_dir=tmp_path / "2"))) as box:
        box.open()
    environment = {
        "PATH": PROGRAMS,
        "SENSORSYNC_STATE_DIR": str(tmp_path),
        "SENSORSYNC_DATABASE__DRIVER": "sqlite",
        "SENSORSYNC_DATABASE__PATH": str(tmp_path / "readings.sqlite"),
    }
    container(environment, "init-db").run()
    done = container(environment, "dlq-replay").run("--json", check=False)
    ends = [json.loads(line) for line in done.out.splitlines()]
    assert [end["ok"] for end in ends] == [False, True]
    assert done.exit_code == ends[0]["exit_code"]


@pytest.mark.parametrize(
    "wrong", [{"SERVICE_MODE": "subscribr"}, {"MULTI_INSTANCE": "perhaps"}], ids=lambda wrong: next(iter(wrong))
)
def test_a_wrong_setting_of_the_container_is_told(wrong: dict[str, str], tmp_path: Path) -> None:
    commands = Commands({"SENSORSYNC_STATE_DIR": str(tmp_path), **wrong}, ["bash", str(ENTRY_POINT)])
    done = commands.run(check=False)
    assert done.exit_code == 2
    assert next(iter(wrong)) in done.err


def test_a_replay_in_a_container_hands_a_signal_on(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sensorsync").write_text(
        "#!/bin/bash\nsleep 60 &\ntrap 'kill $!; exit 5' TERM\necho started >&2\nwait\n"
    )
    (programs / "sensorsync").chmod(0o755)
    (tmp_path / "dead-letters.sqlite").touch()
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "SENSORSYNC_STATE_DIR": str(tmp_path)}
    with container(environment, "dlq-replay").start(tmp_path / "log") as replay:
        replay.logged("started")
        assert replay.terminate(10) == 5


def test_the_workflow_runs_green(mosquitto: Mosquitto, database: Database, tmp_path: Path) -> None:
    (job,) = WORKFLOW["jobs"].values()
    environment = {
        **{name: str(value) for name, value in job["env"].items()},
        "PATH": PROGRAMS,
        "MQTT_BROKER": f"{mosquitto.host}:{mosquitto.port}",
        "DB_HOST": database.host,
        "DB_PORT": str(database.port),
        "DB_PASSWORD": "",  # root's here
        "DB_NAME": database.name,
        "TOTAL_MESSAGES": "500",
        "SENSORSYNC_STATE_DIR": str(tmp_path / "state"),
    }
    steps = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
    assert steps.pop("Install") == "python -m pip install ."
    assert len(steps) == 3
    for script in steps.values():
        # As GitHub's runner does it: --noprofile --norc -eo pipefail.
        done = Commands(environment, ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]).run(script)
        assert json.loads(done.out.splitlines()[0])["ok"] is True
