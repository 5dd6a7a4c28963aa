"""What a command ends in, whatever it does: the envelope's shape is pinned here, failures included."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from sensorsync.commands.result import CommandResult
from sensorsync.console import logs
from sensorsync.console.errors import format_with_causes
from sensorsync.console.execution import ResultOrCoroutine, execute
from sensorsync.errors import (
    AlreadyRunningError,
    BrokerError,
    ConfigurationError,
    DatabaseError,
    DeadLetterBoxError,
    ExitCode,
    IncompleteError,
    Problem,
    SensorsyncError,
    UsageError,
)

Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Execute with --json; the exit code and the one document on stdout."""

    def run(work: Callable[[], ResultOrCoroutine]) -> tuple[int, dict[str, Any]]:
        code = execute("some command", work, as_json=True)
        captured = capsys.readouterr()
        assert captured.out.count("\n") == 1
        assert captured.err == ""
        return code, json.loads(captured.out)

    return run


def raising(error: BaseException) -> Callable[[], ResultOrCoroutine]:
    def work() -> ResultOrCoroutine:
        raise error

    return work


def test_the_envelope_of_a_success(run: Run) -> None:
    code, envelope = run(lambda: CommandResult("some command", {"rows": 3}))
    assert code == 0
    assert envelope == {
        "sensorsync": 1,
        "command": "some command",
        "ok": True,
        "exit_code": 0,
        "data": {"rows": 3},
        "errors": [],
    }
    assert list(envelope) == ["sensorsync", "command", "ok", "exit_code", "data", "errors"]


def test_the_envelope_of_a_result_with_problems(run: Run) -> None:
    problems = (Problem("missing", "3 rows are missing.", "Look at the broker's queue."),)
    code, envelope = run(lambda: CommandResult("some command", {"missing": 3}, ExitCode.INCOMPLETE, problems))
    assert code == 5
    assert envelope == {
        "sensorsync": 1,
        "command": "some command",
        "ok": False,
        "exit_code": 5,
        "data": {"missing": 3},
        "errors": [{"code": "missing", "message": "3 rows are missing.", "hint": "Look at the broker's queue."}],
    }


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (SensorsyncError("x"), 1, "unexpected"),
        (ConfigurationError("x"), 2, "configuration"),
        (UsageError("x"), 2, "usage"),
        (BrokerError("x"), 3, "broker"),
        (DatabaseError("x"), 4, "database"),
        (DeadLetterBoxError("x"), 4, "dead_letter_box"),
        (IncompleteError("x"), 5, "incomplete"),
        (AlreadyRunningError("x"), 6, "already_running"),
    ],
)
def test_the_envelope_of_an_error(run: Run, error: SensorsyncError, exit_code: int, code: str) -> None:
    error.hint = "do this"
    assert run(raising(error)) == (
        exit_code,
        {
            "sensorsync": 1,
            "command": "some command",
            "ok": False,
            "exit_code": exit_code,
            "data": {},
            "errors": [{"code": code, "message": "x.", "hint": "do this"}],
        },
    )


def test_several_wrong_settings_are_several_errors(run: Run) -> None:
    parts = [ConfigurationError("a.", hint="A"), ConfigurationError("b.")]
    code, envelope = run(raising(ConfigurationError("a. (and 1 more)", errors=parts)))
    assert code == 2
    assert [(error["message"], error["hint"]) for error in envelope["errors"]] == [("a.", "A"), ("b.", None)]


def test_an_unforeseen_exception_is_one_sentence_and_exit_code_1(run: Run) -> None:
    code, envelope = run(raising(ZeroDivisionError("division by zero")))
    assert code == 1
    assert envelope["errors"] == [
        {
            "code": "unexpected",
            "message": "Something went wrong that sensorsync did not foresee (ZeroDivisionError): division by zero.",
            "hint": "Run it again with --log-level DEBUG and report the traceback.",
        }
    ]


def test_an_interrupt_has_no_traceback_and_the_work_is_incomplete(run: Run) -> None:
    code, envelope = run(raising(KeyboardInterrupt()))
    assert code == 5
    assert envelope["errors"] == [{"code": "interrupted", "message": "Interrupted before the end.", "hint": None}]


@pytest.mark.parametrize("data", [{"rate": float("nan")}, {"path": object()}])
def test_data_that_is_not_json_is_still_one_envelope(run: Run, data: dict[str, Any]) -> None:
    code, envelope = run(lambda: CommandResult("some command", data))
    assert (code, envelope["ok"], envelope["data"], envelope["errors"][0]["code"]) == (1, False, {}, "unexpected")


def test_a_coroutine_is_run_to_its_end(run: Run) -> None:
    async def work() -> CommandResult:
        await asyncio.sleep(0)
        return CommandResult("some command", {"done": True})

    assert run(work)[1]["data"] == {"done": True}


def test_people_get_the_sentence_its_causes_and_the_hint_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> ResultOrCoroutine:
        raise BrokerError("The broker could not be reached.", hint="Is it running?") from OSError("refused\x1b[2J")

    assert execute("subscribe", work, as_json=False) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ("Error: The broker could not be reached. Cause: refused\\x1b[2J.\n  Hint: Is it running?\n")


def test_a_cause_that_adds_nothing_new_is_left_out() -> None:
    error = BrokerError("Could not connect: refused")
    error.__cause__ = OSError("refused")
    error.__cause__.__cause__ = TimeoutError()
    assert format_with_causes(error) == "Could not connect: refused. Cause: TimeoutError."


def test_where_stderr_carries_json_lines_an_error_is_one_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")
    try:
        execute("subscribe", raising(BrokerError("Refused.", hint="Try.")), as_json=False)
    finally:
        logs.configure("INFO", "text")
    document = json.loads(capsys.readouterr().err)
    assert (document["level"], document["event"], document["code"], document["message"], document["hint"]) == (
        "ERROR",
        "problem",
        "broker",
        "Refused.",
        "Try.",
    )


@pytest.mark.parametrize(("level", "shown"), [("DEBUG", True), ("INFO", False)])
def test_a_traceback_is_shown_at_debug_level_only(capsys: pytest.CaptureFixture[str], level: str, shown: bool) -> None:
    logs.configure(level, "text")
    try:
        execute("x", raising(BrokerError("Refused.")), as_json=True)
    finally:
        logs.configure("INFO", "text")
    assert ("Traceback" in capsys.readouterr().err) is shown


def test_a_command_without_a_renderer_gets_a_table_of_its_data(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"rows": 1234567, "rate": 0.5, "name": "a\x1b[2Jb", "nested": {"ok": True, "none": None}, "list": [1]}
    assert execute("unheard of", lambda: CommandResult("unheard of", data), as_json=False) == 0
    out = capsys.readouterr().out
    assert "1,234,567" in out
    assert "nested.ok" in out
    assert "a\\x1b[2Jb" in out
