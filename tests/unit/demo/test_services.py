"""Children and private services: they answer, they are heard, and none of them outlives us."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sensorsync.demo import (
    Child,
    CommandFailed,
    EmbeddedBroker,
    MosquittoBroker,
    MysqlServer,
    Sandbox,
    Service,
    SubscriberLog,
)
from sensorsync.demo.child import MAX_LINE_BYTES, child_environment
from sensorsync.demo.sandbox import failure_from_log
from sensorsync.demo.service import accepts_mqtt_connect
from sensorsync.errors import BrokerError, ConfigurationError, DatabaseError, ExitCode
from tests.conftest import need
from tests.services import DatabaseServer, Mosquitto, eventually


def python(tmp_path: Path, source: str, **more: object) -> Child:
    words = [sys.executable, "-c", textwrap.dedent(source)]
    return Child("test", words, folder=tmp_path, log_file=tmp_path / "test.log", **more)  # type: ignore[arg-type]


async def ended(child: Child) -> int:
    await child.start()
    return await child.wait()


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_a_childs_output_lines_and_exit_code_are_kept(tmp_path: Path) -> None:
    heard: list[str] = []
    source = "import sys; print('out'); print('one\\ntwo', file=sys.stderr); sys.exit(5)"
    child = python(tmp_path, source, on_line=heard.append)
    assert asyncio.run(ended(child)) == 5
    assert child.output == "out\n"
    assert heard == child.last_log_lines == ["one", "two"]
    assert (tmp_path / "test.log").read_text() == "one\ntwo\n"


def test_a_line_beyond_the_limit_does_not_stop_the_reading(tmp_path: Path) -> None:
    child = python(tmp_path, f"import sys; sys.stderr.write('x' * {3 * MAX_LINE_BYTES} + '\\nlast\\n')")
    assert asyncio.run(ended(child)) == 0
    assert child.last_log_lines[-1] == "last"


def test_a_program_that_does_not_exist_ends_with_127(tmp_path: Path) -> None:
    child = Child("no", ["/no/such/program"], folder=tmp_path, log_file=tmp_path / "log")
    assert asyncio.run(ended(child)) == 127
    assert "No such file" in child.last_log_lines[-1]


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    async def scenario() -> int | None:
        ready = asyncio.Event()
        source = """
            import signal, sys, time
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("ready", file=sys.stderr, flush=True)
            time.sleep(60)
        """
        child = python(tmp_path, source, on_line=lambda _: ready.set())
        await child.start()
        await ready.wait()
        return await child.stop(0.1)

    assert asyncio.run(scenario()) == -signal.SIGKILL


def test_children_die_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not is_alive(pid), "the child is gone")


PARENT = """
    import asyncio, sys
    from pathlib import Path
    from sensorsync.demo import Child

    async def main(folder):
        child = Child("sleep", ["sleep", "60"], folder=folder, log_file=folder / "log")
        await child.start()
        print(child.pid, flush=True)
        await child.wait()

    asyncio.run(main(Path(sys.argv[1])))
"""


def test_no_setting_of_the_user_reaches_a_child() -> None:
    environ = {"PATH": "/bin", "DB_HOST": "db", "SENSORSYNC_MQTT__HOST": "broker", "HOME": "/home"}
    assert child_environment(environ, frozenset({"DB_HOST"})) == {"PATH": "/bin", "HOME": "/home"}


def test_an_embedded_broker_answers_connect_and_listens_only_on_loopback(tmp_path: Path) -> None:
    pytest.importorskip("iotcore")

    async def scenario() -> None:
        broker = EmbeddedBroker(tmp_path / "broker")
        await broker.start()
        eventually(lambda: accepts_mqtt_connect(broker.port), "its answer")
        assert 'listen = "127.0.0.1:' in (tmp_path / "broker" / "broker.toml").read_text()
        await broker.stop()
        assert not accepts_mqtt_connect(broker.port)

    asyncio.run(scenario())


def test_a_missing_extra_is_one_sentence_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensorsync.demo.embedded.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="not installed") as caught:
        EmbeddedBroker(tmp_path)
    assert "pip install 'sensorsync[demo]'" in str(caught.value.hint)


@pytest.mark.parametrize("service", [MosquittoBroker, MysqlServer])
def test_a_program_that_is_not_installed_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: Callable[[Path], Service]
) -> None:
    monkeypatch.setattr("sensorsync.demo.service.shutil.which", lambda name, path: None)
    with pytest.raises(ConfigurationError, match="on the PATH") as caught:
        service(tmp_path)
    assert "apt-get install" in str(caught.value.hint)


def test_a_private_mosquitto_queues_without_bound(tmp_path: Path) -> None:
    need(Mosquitto)

    async def scenario() -> None:
        broker = MosquittoBroker(tmp_path / "broker")
        await broker.start()
        eventually(lambda: accepts_mqtt_connect(broker.port), "its answer")
        assert "max_queued_messages 0" in (tmp_path / "broker" / "mosquitto.conf").read_text()
        await broker.stop()

    asyncio.run(scenario())


def test_a_private_database_server_listens_on_a_socket_in_a_folder_of_ours_alone(tmp_path: Path) -> None:
    need(DatabaseServer)

    async def scenario() -> None:
        server = MysqlServer(tmp_path / "database")
        await server.start()
        eventually(server.is_ready, "its greeting")
        assert server.folder.stat().st_mode & 0o777 == 0o700
        assert server.label in {"MariaDB", "MySQL"}
        await server.stop()
        assert server.child is not None
        assert server.child.returncode == 0

    asyncio.run(scenario())


def test_a_socket_path_that_is_too_long_is_replaced(tmp_path: Path) -> None:
    need(DatabaseServer)
    server = MysqlServer(tmp_path / ("x" * 100))
    assert len(str(server.socket_path)) < 100
    asyncio.run(server.stop())
    assert not server.socket_path.parent.exists()


class Broken(Service):
    """Says why, and ends."""

    error_class = BrokerError

    async def prepare(self) -> list[str]:
        return [sys.executable, "-c", "print('address in use'); raise SystemExit(3)"]

    def is_ready(self) -> bool:
        return False


def test_a_service_that_ends_early_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="ended with 3: address in use"):
        asyncio.run(Broken(tmp_path).start())


def test_a_server_that_cannot_initialize_is_reported_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensorsync.demo.mysqld.find_program", lambda *names: "/bin/false")
    with pytest.raises(DatabaseError, match="failed with 1"):
        asyncio.run(MysqlServer(tmp_path).start())


def in_sandbox(folder: Path, story: Callable[[Sandbox], Awaitable[None]]) -> None:
    async def scenario() -> None:
        sandbox = Sandbox(folder)
        try:
            await story(sandbox)
        finally:
            await sandbox.kill()

    asyncio.run(scenario())


def test_a_command_runs_with_the_sandboxs_configuration_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_HOST", "production.example.com")

    async def story(sandbox: Sandbox) -> None:
        sandbox.configure({"mqtt": {"port": 4321}})
        assert sandbox.config_file.stat().st_mode & 0o777 == 0o600
        envelope = await sandbox.run("config", "show")
        settings = envelope["data"]["settings"]
        assert settings["mqtt.port"]["value"] == 4321
        assert settings["database.host"]["value"] == "localhost"

    in_sandbox(tmp_path, story)


def test_waiting_ends_when_a_service_dies(tmp_path: Path) -> None:
    pytest.importorskip("iotcore")

    async def story(sandbox: Sandbox) -> None:
        broker = EmbeddedBroker(tmp_path / "broker")
        await sandbox.start_service(broker)
        assert broker.child is not None
        broker.child.send_signal(signal.SIGKILL)
        with pytest.raises(BrokerError, match="ended with -9"):
            await sandbox.run_while_monitored(asyncio.sleep(30))

    in_sandbox(tmp_path, story)


def test_a_command_that_dies_is_reported_with_its_problem_and_exit_code(tmp_path: Path) -> None:
    record = '{"event": "problem", "code": "database", "message": "No table.", "hint": "init-db"}'
    child = python(tmp_path, f"import sys; print({record!r}, file=sys.stderr); sys.exit(4)")
    asyncio.run(ended(child))
    failure = failure_from_log(child)
    assert failure.exit_code is ExitCode.DATABASE
    assert [(one.code, one.message, one.hint) for one in failure.problems] == [("database", "No table.", "init-db")]


def test_a_command_that_is_killed_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    child = python(tmp_path, "import os, sys; print('busy', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)")
    asyncio.run(ended(child))
    failure = failure_from_log(child)
    assert failure.exit_code is ExitCode.UNEXPECTED
    assert "ended by signal 9: busy" in failure.problems[0].message


@pytest.mark.parametrize("output", ["", "no JSON", "[]", "{}"])
def test_output_that_is_not_an_envelope_is_a_failure(tmp_path: Path, output: str) -> None:
    async def scenario() -> None:
        sandbox = Sandbox(tmp_path, program=("sh", "-c", 'echo "$0"', output))
        with pytest.raises(CommandFailed, match="ended with 0"):
            await sandbox.run("audit")

    asyncio.run(scenario())


def status(received: int, landed: int, duplicates: int = 0, parked: int = 0) -> dict[str, object]:
    counts = {"received": received, "landed": landed, "duplicates": duplicates, "parked": parked}
    return {"event": "status", **counts, "queue_depth": received - landed - parked, "rate": 1.0}


def test_all_is_settled_once_each_message_is_stored_or_parked_redeliveries_not_counted() -> None:
    async def scenario() -> None:
        changes: list[int] = []
        log = SubscriberLog(lambda log: changes.append(log.rows_stored))
        log.handle_record({"event": "connected"})
        assert log.connected.is_set()
        waiting = asyncio.create_task(log.wait_until_settled(10))
        log.handle_record(status(10, 9, duplicates=2))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        log.handle_record(status(12, 11, duplicates=2, parked=1))
        async with asyncio.timeout(1):
            await waiting
        log.handle_record({"event": "stopped", "stored": 11, "redelivered": 2, "parked": 1})
        assert (changes, log.new_rows, log.parked) == ([9, 11], 9, 1)

    asyncio.run(scenario())


def test_waiting_for_the_rest_ends_when_nothing_moves_any_more() -> None:
    async def scenario() -> None:
        log = SubscriberLog(lambda _: None)
        log.handle_record(status(9, 9))
        async with asyncio.timeout(5):
            await log.wait_until_settled(10, stall_seconds=0.05)

    asyncio.run(scenario())


def test_parent_death_refuses_a_parent_that_is_gone() -> None:
    done = subprocess.run(
        [sys.executable, str(Path(sys.modules["sensorsync.demo.parent_death"].__file__ or "")), "1", "true"],
        check=False,
    )
    assert done.returncode == (1 if sys.platform == "linux" and os.getpid() != 1 else 0)
