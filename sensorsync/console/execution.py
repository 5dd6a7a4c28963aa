"""Run one command to its end, whatever happens: its result or its error is shown, and becomes an exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from sensorsync.commands.result import CommandResult
from sensorsync.console.errors import with_causes
from sensorsync.console.results import render_result
from sensorsync.errors import ExitCode, InterruptedByUser, Problem, SensorsyncError

log = logging.getLogger(__name__)

Outcome = CommandResult | Coroutine[Any, Any, CommandResult]


def execute(command: str, work: Callable[[], Outcome], *, as_json: bool) -> int:
    """Do the work, show its result and return the exit code. Raises nothing that a command can raise."""
    result = _result_of(command, work)
    try:
        _show(result, as_json=as_json)
    except Exception as error:
        log.debug("%s", error, exc_info=True)
        result = CommandResult(command, exit_code=ExitCode.UNEXPECTED, problems=(_unexpected(error),))
        _show(result, as_json=as_json)
    return int(result.exit_code)


def _show(result: CommandResult, *, as_json: bool) -> None:
    try:
        render_result(result, as_json=as_json)
    except BrokenPipeError:
        leave_stdout()
    except KeyboardInterrupt:
        log.debug("Interrupted while the result was shown.")


def _result_of(command: str, work: Callable[[], Outcome]) -> CommandResult:
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
        return CommandResult(command, exit_code=interrupted.exit_code, problems=(Problem.of(interrupted),))
    except Exception as error:
        log.debug("%s", error, exc_info=True)
        return CommandResult(command, exit_code=ExitCode.UNEXPECTED, problems=(_unexpected(error),))


def _problems(error: SensorsyncError) -> tuple[Problem, ...]:
    parts = Problem.all_of(error)
    return parts if len(parts) > 1 else (replace(parts[0], message=with_causes(error)),)


def _unexpected(error: Exception) -> Problem:
    message = f"Something went wrong that sensorsync did not foresee ({type(error).__name__}): {with_causes(error)}"
    return Problem(SensorsyncError.code, message, "Run it again with --log-level DEBUG and report the traceback.")


def leave_stdout() -> None:
    """Nobody reads stdout any more: point it at nothing, so that Python's last flush doesn't complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
