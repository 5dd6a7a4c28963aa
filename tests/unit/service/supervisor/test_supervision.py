"""The supervisor: which processes are restarted, and what stops all of them. The processes are scripts that play their part."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sensorsync.config import Settings
from sensorsync.errors import ExitCode
from sensorsync.pipeline.counters import PipelineCounters
from sensorsync.runtime.shutdown import GracefulShutdown
from sensorsync.service.supervisor import SupervisionResult, Supervisor, supervision
from sensorsync.service.supervisor.child_process import MAX_LINE_BYTES
from sensorsync.service.supervisor.totals import ProcessTotals

PRELUDE = """
import json, os, signal, sys, time
number = int(sys.argv[sys.argv.index("--process") + 1])
handover = json.loads(sys.stdin.buffer.readline())
folder = os.path.dirname(__file__)
life = len([n for n in os.listdir(folder) if n.startswith(f"life-{number}-")])
open(f"{folder}/life-{number}-{life}", "w").close()
def say(event, level="INFO", message="words", **more):
    record = {"ts": "2026-01-02T03:04:05.678Z", "level": level, "logger": "sensorsync.x", "message": message, "event": event, **more}
    # Not print: a signal handler writes, too, maybe while the main program is writing to the same buffered stream.
    os.write(2, f"{json.dumps(record)}\\n".encode())
def serve(code=0, stopped_by="SIGTERM", first=lambda: None):
    def end(*_):
        say("stopped", stopped_by=stopped_by)
        sys.exit(code)
    signal.signal(signal.SIGTERM, end)
    say("connected")
    first()
    while True:
        time.sleep(60)
"""


class Stage:
    """Runs a supervisor over processes that follow a script."""

    def __init__(self, folder: Path, script: str, *, processes: int = 2, **options: object) -> None:
        program = folder / "program.py"
        program.write_text(PRELUDE + script)
        self.folder = folder
        settings = Settings.model_validate(
            {
                "pipeline": {"processes": processes, "stop_timeout": 3, "status_interval": 60},
                "database": {"read_timeout": 2, "lock_wait_timeout": 1, "connect_timeout": 1},
                "mqtt": {"on_stop": options.pop("on_stop", "keep")},
                "state_dir": str(folder),
            }
        )
        self.totals = ProcessTotals(0.0)
        self.supervisor = Supervisor(settings, self.totals, program=[sys.executable, str(program)], **options)  # type: ignore[arg-type]

    def lives(self, number: int) -> int:
        return len(list(self.folder.glob(f"life-{number}-*")))

    def play(self, *steps: Callable[[], object]) -> tuple[SupervisionResult, str | None]:
        """Run it; once each of `steps` has become true, one after the other, stop it. Without any, it ends by itself."""

        async def story() -> tuple[SupervisionResult, str | None]:
            with GracefulShutdown() as stop:
                task = asyncio.create_task(self.supervisor.run(stop))
                async with asyncio.timeout(30):
                    for step in steps:
                        while not step():
                            assert not task.done(), task.result()
                            await asyncio.sleep(0.01)
                    if steps:
                        stop.request("test")
                    return await task, stop.reason

        return asyncio.run(story())

    def all_connected(self) -> bool:
        return self.supervisor.running == len(self.supervisor._slots)

    def kill(self, number: int) -> bool:
        life = self.supervisor._slots[number].child
        assert life is not None
        assert life.pid is not None
        os.kill(life.pid, signal.SIGKILL)
        return True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "RESTART_DELAYS", (0.05, 0.2))
    monkeypatch.setattr(supervision, "KILL_DELAY", 17.0)  # 20 seconds after the request


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sensorsync")


def named(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if getattr(record, "event", None) == event]


def test_all_processes_run_until_shutdown_is_requested(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "serve()", processes=3)
    verdict, reason = stage.play(stage.all_connected)
    assert verdict == SupervisionResult(ExitCode.OK, (), 0, failed=False)
    assert reason == "test"


def test_a_process_that_cannot_be_started_is_retried_and_the_others_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # That ended the whole instance.
    stage = Stage(tmp_path, "serve()")
    start = asyncio.create_subprocess_exec
    refused: list[tuple[str, ...]] = []

    async def refuse_once(*words: str, **options: Any) -> asyncio.subprocess.Process:
        if stage.lives(1) == 1 and not refused:
            refused.append(words)
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return await start(*words, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse_once)
    verdict, _ = stage.play(
        stage.all_connected, lambda: stage.kill(1), lambda: stage.lives(1) == 2, stage.all_connected
    )

    assert (verdict.exit_code, verdict.restarts, stage.lives(0)) == (ExitCode.OK, 2, 1)
    assert "it could not be started: [Errno 11]" in named(caplog, "process_died")[-1].getMessage()


def test_the_supervision_ends_when_all_processes_end_by_themselves(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "say('connected'); say('stopped', stopped_by='idle')", until_idle=1.0)
    verdict, reason = stage.play()
    assert (verdict.exit_code, reason) == (ExitCode.OK, "idle")
    assert (stage.lives(0), stage.lives(1)) == (1, 1)


def test_a_killed_process_is_restarted_and_the_other_continues(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(tmp_path, "serve()")
    verdict, _ = stage.play(
        stage.all_connected, lambda: stage.kill(1), lambda: stage.lives(1) == 2 and stage.all_connected()
    )
    assert (verdict.exit_code, verdict.restarts) == (ExitCode.OK, 1)
    assert stage.lives(0) == 1
    assert "process 1 was terminated by SIGKILL; restart in" in named(caplog, "process_died")[0].getMessage()


def test_a_process_that_was_stopped_from_outside_is_restarted(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "serve() if life else (say('connected'), say('stopped', stopped_by='SIGTERM'))")
    verdict, _ = stage.play(lambda: stage.lives(0) == stage.lives(1) == 2 and stage.all_connected())
    assert (verdict.exit_code, verdict.restarts) == (ExitCode.OK, 2)


def test_a_crash_loop_is_logged_as_critical_with_the_last_log_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(tmp_path, "serve() if number == 0 else sys.exit('Segmentation fault, or so')")
    verdict, _ = stage.play(lambda: stage.lives(1) >= 5)
    assert verdict.exit_code in {ExitCode.OK, ExitCode.INCOMPLETE}  # it may have been running at the stop
    assert stage.lives(0) == 1
    loop = named(caplog, "crash_loop")[0]
    assert loop.levelno == logging.CRITICAL
    assert (
        "crashed 3 times in a row; it exited with code 1: Segmentation fault, or so; the other processes continue"
        in loop.getMessage()
    )
    assert "[P1] Segmentation fault, or so" in caplog.text


@pytest.mark.parametrize("code", [ExitCode.USAGE, ExitCode.BROKER, ExitCode.DATABASE, ExitCode.ALREADY_RUNNING])
def test_a_permanent_failure_at_the_first_start_ends_all_and_is_reported_once(tmp_path: Path, code: ExitCode) -> None:
    script = f"say('problem', message='It is wrong.', code='c', hint='Mend it.'); sys.exit({int(code)})"
    stage = Stage(tmp_path, script, processes=3)
    verdict, reason = stage.play()
    assert (verdict.exit_code, verdict.failed, reason) == (code, True, "failure")
    assert [(problem.code, problem.message, problem.hint) for problem in verdict.problems] == [
        ("c", "It is wrong.", "Mend it.")
    ]
    assert max(stage.lives(number) for number in range(3)) == 1


def test_a_permanent_failure_at_the_first_start_of_one_ends_the_running_ones(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "serve() if number == 0 else sys.exit(4)")
    verdict, _ = stage.play()
    assert (verdict.exit_code, verdict.failed) == (ExitCode.DATABASE, True)


def test_a_later_failure_is_retried_while_another_process_runs(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "serve() if number == 0 or life not in (1, 2) else sys.exit(4)")
    verdict, _ = stage.play(
        stage.all_connected, lambda: stage.kill(1), lambda: stage.lives(1) == 4 and stage.all_connected()
    )
    assert (verdict.exit_code, verdict.restarts) == (ExitCode.OK, 3)


def test_when_the_last_process_has_a_permanent_failure_the_supervision_ends(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "say('connected'); say('problem', message='no table', code='database'); sys.exit(4)")
    verdict, _ = stage.play()
    assert (verdict.exit_code, verdict.failed, verdict.problems[0].message) == (ExitCode.DATABASE, True, "no table")


def test_a_session_taken_over_stops_all_processes_at_any_time(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "serve() if number == 0 else (say('connected'), time.sleep(0.3), sys.exit(6))")
    verdict, _ = stage.play()
    assert (verdict.exit_code, verdict.failed, stage.lives(1)) == (ExitCode.ALREADY_RUNNING, True, 1)


def test_processes_that_never_connect_are_not_restarted_for_ever(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "sys.exit(1)")
    verdict, _ = stage.play()
    assert (verdict.exit_code, verdict.failed) == (ExitCode.UNEXPECTED, True)


def test_a_run_until_idle_gives_up_a_process_in_a_crash_loop(tmp_path: Path) -> None:
    script = "sys.exit(1) if number else (say('connected'), say('stopped', stopped_by='idle'))"
    stage = Stage(tmp_path, script, until_idle=1.0)
    verdict, _ = stage.play()
    assert verdict.exit_code == ExitCode.INCOMPLETE
    assert "process 1 exited with code 1" in verdict.problems[0].message
    assert stage.lives(1) == 3


def test_a_process_that_does_not_stop_is_killed_after_the_deadline(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "KILL_DELAY", 1.0)
    script = "signal.signal(signal.SIGTERM, signal.SIG_IGN) if number else None; say('connected'); time.sleep(60)"
    stage = Stage(tmp_path, script + " if number else serve()")
    verdict, _ = stage.play(stage.all_connected)
    assert verdict.exit_code == ExitCode.INCOMPLETE
    assert "process 1 was terminated by SIGKILL" in verdict.problems[0].message
    assert len(named(caplog, "process_killed")) == 1


def test_a_process_that_ends_its_sessions_is_not_killed_at_the_deadline(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "KILL_DELAY", -2.0)  # one second after the request, if it were to stop
    script = """
def slowly(*_):
    time.sleep(1.5)
    say("stopped", stopped_by="SIGTERM")
    sys.exit(0)
signal.signal(signal.SIGTERM, slowly)
say("connected")
time.sleep(60)
"""
    stage = Stage(tmp_path, script, on_stop="leave")
    verdict, _ = stage.play(stage.all_connected)
    assert verdict.exit_code == ExitCode.OK
    assert named(caplog, "process_killed") == []


def test_a_process_that_fails_during_shutdown_is_started_once_more_to_end_its_sessions(tmp_path: Path) -> None:
    # That was exit code 5, and sessions that were not ended, although the cause had been fixed a moment before.
    script = """
while number == 1 and life == 1 and not os.path.exists(f"{folder}/asked"):
    time.sleep(0.01)
if number == 1 and life == 1:
    sys.exit(2)
serve()
"""
    stage = Stage(tmp_path, script, on_stop="leave")
    verdict, _ = stage.play(
        stage.all_connected,
        lambda: stage.kill(1),
        lambda: stage.lives(1) == 2,
        lambda: (tmp_path / "asked").write_text("x"),  # it is requested to stop before it can see this
    )
    assert (verdict.exit_code, stage.lives(1)) == (ExitCode.OK, 3)


def test_a_process_that_fails_twice_during_shutdown_is_given_up(tmp_path: Path) -> None:
    script = """
while number == 1 and life == 1 and not os.path.exists(f"{folder}/asked"):
    time.sleep(0.01)
if number == 1 and life >= 1:
    sys.exit(2)
serve()
"""
    stage = Stage(tmp_path, script, on_stop="leave")
    verdict, _ = stage.play(
        stage.all_connected,
        lambda: stage.kill(1),
        lambda: stage.lives(1) == 2,
        lambda: (tmp_path / "asked").write_text("x"),
    )
    assert (verdict.exit_code, stage.lives(1)) == (ExitCode.INCOMPLETE, 3)


def test_unacknowledged_messages_of_one_process_make_the_result_incomplete(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "serve(code=5 * number)")
    verdict, _ = stage.play(stage.all_connected)
    assert verdict.exit_code == ExitCode.INCOMPLETE
    assert verdict.problems[0].message.startswith("process 1 exited with code 5")


def test_max_messages_counts_the_messages_of_all_processes(tmp_path: Path) -> None:
    status = {**asdict(PipelineCounters(0.0).snapshot(1.0)), "received": 6, "settled": 6}
    stage = Stage(tmp_path, f"serve(first=lambda: say('status', **{status}))", max_messages=10)
    verdict, reason = stage.play()
    assert (verdict.exit_code, reason, stage.totals.settled) == (ExitCode.OK, "max-messages", 12)


def test_log_records_are_forwarded_with_level_time_fields_and_process_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = f"""
say("odd", level="WARNING", message="100% of it", traceback="T", worker=3)
say("quiet", level="DEBUG")
print("x" * {3 * MAX_LINE_BYTES}, file=sys.stderr)
print("not ours", file=sys.stderr, flush=True)
serve()
"""
    stage = Stage(tmp_path, script, processes=1)
    stage.play(stage.all_connected)
    (odd,) = named(caplog, "odd")
    assert (odd.levelname, odd.getMessage(), odd.name) == ("WARNING", "[P0] 100% of it", "sensorsync.x")
    assert (vars(odd)["worker"], vars(odd)["process_number"], vars(odd)["traceback"]) == (3, 0, "T")
    assert odd.created == 1767323045.678
    assert named(caplog, "quiet") == []
    assert "[P0] not ours" in caplog.text
