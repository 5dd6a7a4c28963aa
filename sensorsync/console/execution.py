"""The execution of one command to its end: its result or its error is shown, and becomes an exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from sensorsync.commands.result import CommandResult
from sensorsync.console.errors import format_with_causes
from sensorsync.console.results import render_result
from sensorsync.errors import ExitCode, InterruptedByUser, Problem, SensorsyncError

log = logging.getLogger(__name__)

ResultOrCoroutine = CommandResult | Coroutine[Any, Any, CommandResult]


def execute(command: str, work: Callable[[], ResultOrCoroutine], *, as_json: bool) -> int:
    """Run the command, show its result and return the exit code. Every error that a command raises is handled."""
    result = _run_work(command, work)
    try:
        _render(result, as_json=as_json)
    except Exception as error:
        log.debug("%s", error, exc_info=True)
        result = CommandResult(command, exit_code=ExitCode.UNEXPECTED, problems=(_unexpected_problem(error),))
        _render(result, as_json=as_json)
    return int(result.exit_code)


def _render(result: CommandResult, *, as_json: bool) -> None:
    try:
        render_result(result, as_json=as_json)
    except BrokenPipeError:
        redirect_stdout_to_devnull()
    except KeyboardInterrupt:
        log.debug("interrupted while the result was printed")


def _run_work(command: str, work: Callable[[], ResultOrCoroutine]) -> CommandResult:
    try:
        outcome = work()
        if isinstance(outcome, CommandResult):
            return outcome
        import asyncio  # noqa: PLC0415 - quick commands need none

        return asyncio.run(outcome)
    except SensorsyncError as error:
        log.debug("%s", error, exc_info=True)
        return CommandResult(command, exit_code=error.exit_code, problems=_problems(error))
    except KeyboardInterrupt:
        interrupted = InterruptedByUser()
        return CommandResult(command, exit_code=interrupted.exit_code, problems=(Problem.from_error(interrupted),))
    except Exception as error:
        log.debug("%s", error, exc_info=True)
        return CommandResult(command, exit_code=ExitCode.UNEXPECTED, problems=(_unexpected_problem(error),))


def _problems(error: SensorsyncError) -> tuple[Problem, ...]:
    parts = Problem.all_from_error(error)
    return parts if len(parts) > 1 else (replace(parts[0], message=format_with_causes(error)),)


def _unexpected_problem(error: Exception) -> Problem:
    message = (
        f"Something went wrong that sensorsync did not foresee ({type(error).__name__}): {format_with_causes(error)}"
    )
    return Problem(SensorsyncError.code, message, "Run it again with --log-level DEBUG and report the traceback.")


def redirect_stdout_to_devnull() -> None:
    """Point stdout at /dev/null after its reader is gone, so that Python's last flush does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
