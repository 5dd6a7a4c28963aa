"""The steps in their order. Each is timed, and the first failure stops those that depend on it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from sensorsync.config import Settings
from sensorsync.mqtt.check.capacity import check_window
from sensorsync.mqtt.check.client import CheckClient
from sensorsync.mqtt.check.context import CheckContext
from sensorsync.mqtt.check.login import check_connect, check_limits
from sensorsync.mqtt.check.network import Address, connect_tcp, resolve
from sensorsync.mqtt.check.persistence import check_persistence
from sensorsync.mqtt.check.report import Step, StepFailed, StepOutput, StepResult, StepStatus
from sensorsync.mqtt.check.tls import check_tls
from sensorsync.mqtt.check.traffic import check_publish, check_share, check_subscribe

DEFAULT_TOPIC = "sensors/test/connectivity"

StepCallback = Callable[[Step], None]
"""A function that is called when a step begins."""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Options of the check in addition to the settings."""

    topic: str = DEFAULT_TOPIC
    """The topic of all probes."""
    probes: int = 20
    """Number of round trips to time."""
    quick: bool = False
    """True to leave out session persistence and the delivery window."""


async def check_broker(
    settings: Settings, options: CheckOptions, on_step: StepCallback = lambda _: None
) -> tuple[StepResult, ...]:
    """Check the broker of `settings`, step by step.

    Raises ConfigurationError when a TLS file cannot be used, before the first step.
    """
    async with AsyncExitStack() as stack:
        return await _StepRunner(CheckContext(settings, options.topic, stack), options, on_step).run()


class _StepSkipped(Exception):
    """A step that has nothing to do. The text is the reason."""


class _StepRunner:
    def __init__(self, context: CheckContext, options: CheckOptions, on_step: StepCallback) -> None:
        self._context = context
        self._options = options
        self._on_step = on_step
        self._addresses: list[Address] = []
        self._subscriber: CheckClient | None = None

    async def run(self) -> tuple[StepResult, ...]:
        steps: dict[Step, Callable[[], Awaitable[StepOutput]]] = {
            Step.RESOLVE: self._resolve,
            Step.TCP: self._tcp,
            Step.TLS: self._tls,
            Step.CONNECT: lambda: check_connect(self._context),
            Step.LIMITS: self._limits,
            Step.SUBSCRIBE: self._subscribe,
            Step.PUBLISH: self._publish,
            Step.SHARE: lambda: check_share(self._context),
            Step.PERSISTENCE: self._persistence,
            Step.WINDOW: self._window,
        }
        results: list[StepResult] = []
        blocked = False
        for step, work in steps.items():
            if blocked:
                results.append(StepResult(step, StepStatus.SKIPPED, 0.0, "not reached"))
                continue
            self._on_step(step)
            result = await _run_step(step, work)
            results.append(result)
            failed = result.failure
            blocked = (
                failed is not None and not failed.cause.insufficient and step not in {Step.SHARE, Step.PERSISTENCE}
            )
        return tuple(results)

    async def _resolve(self) -> StepOutput:
        output, self._addresses = await resolve(self._context.base_options)
        return output

    async def _tcp(self) -> StepOutput:
        return await connect_tcp(self._context.base_options, self._addresses)

    async def _tls(self) -> StepOutput:
        base, settings = self._context.base_options, self._context.settings
        if base.tls is not None:
            return await check_tls(base, base.tls, settings)
        raise _StepSkipped("not encrypted (mqtt.tls.enabled is false)")

    async def _limits(self) -> StepOutput:
        return check_limits(self._context)

    async def _subscribe(self) -> StepOutput:
        output, self._subscriber = await check_subscribe(self._context)
        return output

    async def _publish(self) -> StepOutput:
        if self._subscriber is None:
            raise _StepSkipped("no subscriber")
        try:
            return await check_publish(self._context, self._subscriber, self._options.probes)
        finally:
            await self._subscriber.close(end_session=True)

    async def _persistence(self) -> StepOutput:
        if self._options.quick:
            raise _StepSkipped("left out (--quick)")
        if self._context.settings.mqtt.ephemeral:
            raise _StepSkipped("not needed (mqtt.ephemeral)")
        return await check_persistence(self._context)

    async def _window(self) -> StepOutput:
        if self._options.quick:
            raise _StepSkipped("left out (--quick)")
        return await check_window(self._context)


async def _run_step(step: Step, work: Callable[[], Awaitable[StepOutput]]) -> StepResult:
    began = time.monotonic()
    try:
        found = await work()
    except _StepSkipped as reason:
        return StepResult(step, StepStatus.SKIPPED, 0.0, str(reason))
    except StepFailed as failed:
        seconds = time.monotonic() - began
        return StepResult(step, StepStatus.FAILED, seconds, failed.problem.text, failed.facts, failed.problem)
    status = StepStatus.WARNED if found.warnings else StepStatus.PASSED
    return StepResult(step, status, time.monotonic() - began, found.summary, found.facts, None, found.warnings)
