"""The `check-cloud` command, which checks that the broker can be reached, lets us in and does what the pipeline needs."""

from __future__ import annotations

import logging
import time
from typing import Any

from sensorsync.commands.result import CommandResult
from sensorsync.config import Settings
from sensorsync.config.checks import broker_cleartext_credentials
from sensorsync.errors import ExitCode, Problem, UsageError
from sensorsync.messages.topics import check_name
from sensorsync.mqtt.check import CheckOptions, StepCallback, StepProblem, StepResult, check_broker
from sensorsync.mqtt.client.causes import CAUSES

COMMAND = "check-cloud"
logger = logging.getLogger(__name__)

__all__ = ["COMMAND", "CheckOptions", "run"]


async def run(settings: Settings, options: CheckOptions, on_step: StepCallback = lambda _: None) -> CommandResult:
    """Run all steps that can be run; `on_step` is called when one begins.

    Only the broker is checked, never the database. Exit code 3 when a step failed, 5 when the broker lets us in but
    something is lost or not enough. Raises UsageError for an invalid topic, ConfigurationError.
    """
    try:
        check_name(options.topic)
    except ValueError as error:
        raise UsageError(f"--topic: {error}") from error
    began = time.monotonic()
    results = await check_broker(settings, options, on_step)
    exposed = broker_cleartext_credentials(settings)
    for warning in exposed:
        logger.warning("%s", warning, extra={"event": "clear_text"})
    failed = [(one.step, one.failure) for one in results if one.failure is not None]
    mqtt = settings.mqtt
    warnings = len(exposed) + sum(len(one.warnings) for one in results)
    data = {
        "broker": f"{mqtt.host}:{mqtt.port}",
        "tls": mqtt.use_tls,
        "transport": mqtt.transport,
        "topic": options.topic,
        "ready": not failed,
        "verdict": _verdict(results, warnings, quick=options.quick),
        "seconds": round(time.monotonic() - began, 3),
        "steps": [_step_as_json(one) for one in results],
        "warnings": [{"key": CAUSES["unencrypted"].key, "message": text} for text in exposed],
    }
    problems = tuple(Problem(one.cause.key, f"{step.label}: {one.text}", one.cause.hint) for step, one in failed)
    return CommandResult(COMMAND, data, _exit_code([one for _, one in failed]), problems)


def _exit_code(failures: list[StepProblem]) -> ExitCode:
    if not failures:
        return ExitCode.OK
    return ExitCode.INCOMPLETE if all(one.cause.insufficient for one in failures) else ExitCode.BROKER


def _verdict(results: tuple[StepResult, ...], warnings: int, *, quick: bool) -> str:
    failed = [one for one in results if one.failure is not None]
    if failed:
        steps = ", ".join(one.step.label for one in failed)
        return f"Not ready: {steps} failed; {failed[0].failure.cause.description if failed[0].failure else ''}."
    noted = f", with {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    extent = "sessions and throughput were not looked at" if quick else "the broker does all that the pipeline needs"
    return f"Ready{noted}: {extent}."


def _step_as_json(result: StepResult) -> dict[str, Any]:
    return {
        "step": str(result.step),
        "label": result.step.label,
        "status": str(result.status),
        "seconds": round(result.seconds, 6),
        "summary": result.summary,
        "facts": dict(result.facts),
        "failure": _problem_as_json(result.failure) if result.failure else None,
        "warnings": [_problem_as_json(one) for one in result.warnings],
    }


def _problem_as_json(problem: StepProblem) -> dict[str, Any]:
    return {"key": problem.cause.key, "message": problem.text, "hint": problem.cause.hint}
