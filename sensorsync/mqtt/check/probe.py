"""The steps in their order: each timed, the first failure stops those that build on it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from sensorsync.config import Settings
from sensorsync.mqtt.check.capacity import check_window
from sensorsync.mqtt.check.client import ProbeClient
from sensorsync.mqtt.check.login import check_connect, check_limits
from sensorsync.mqtt.check.network import Address, connect_tcp, resolve
from sensorsync.mqtt.check.persistence import check_persistence
from sensorsync.mqtt.check.report import Finding, Status, Step, StepFailed, StepResult
from sensorsync.mqtt.check.tls import check_tls
from sensorsync.mqtt.check.traffic import check_publish, check_share, check_subscribe
from sensorsync.mqtt.check.visit import Visit

TOPIC = "sensors/test/connectivity"

Show = Callable[[Step], None]
"""Told when a step begins."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for beyond the settings."""

    topic: str = TOPIC
    """The topic of all probes."""
    probes: int = 20
    """Round trips to time."""
    quick: bool = False
    """Leave out session persistence and the delivery window."""


async def probe(settings: Settings, options: Options, show: Show = lambda _: None) -> tuple[StepResult, ...]:
    """Check the broker of `settings`, step by step. Raises ConfigurationError when a TLS file can't be used, before the first step."""
    async with AsyncExitStack() as stack:
        return await _Probe(Visit(settings, options.topic, stack), options, show).run()


class _Skipped(Exception):
    """A step has nothing to do; the text says why."""


class _Probe:
    def __init__(self, visit: Visit, options: Options, show: Show) -> None:
        self._visit = visit
        self._options = options
        self._show = show
        self._addresses: list[Address] = []
        self._subscriber: ProbeClient | None = None

    async def run(self) -> tuple[StepResult, ...]:
        steps: dict[Step, Callable[[], Awaitable[Finding]]] = {
            Step.RESOLVE: self._resolve,
            Step.TCP: self._tcp,
            Step.TLS: self._tls,
            Step.CONNECT: lambda: check_connect(self._visit),
            Step.LIMITS: self._limits,
            Step.SUBSCRIBE: self._subscribe,
            Step.PUBLISH: self._publish,
            Step.SHARE: lambda: check_share(self._visit),
            Step.PERSISTENCE: self._persistence,
            Step.WINDOW: self._window,
        }
        results: list[StepResult] = []
        blocked = False
        for step, work in steps.items():
            if blocked:
                results.append(StepResult(step, Status.SKIPPED, 0.0, "not reached"))
                continue
            self._show(step)
            result = await _timed(step, work)
            results.append(result)
            failed = result.failure
            blocked = failed is not None and not failed.cause.lacking and step not in {Step.SHARE, Step.PERSISTENCE}
        return tuple(results)

    async def _resolve(self) -> Finding:
        finding, self._addresses = await resolve(self._visit.base)
        return finding

    async def _tcp(self) -> Finding:
        return await connect_tcp(self._visit.base, self._addresses)

    async def _tls(self) -> Finding:
        base, settings = self._visit.base, self._visit.settings
        if base.tls is not None:
            return await check_tls(base, base.tls, settings)
        raise _Skipped("not encrypted (mqtt.tls.enabled is false)")

    async def _limits(self) -> Finding:
        return check_limits(self._visit)

    async def _subscribe(self) -> Finding:
        finding, self._subscriber = await check_subscribe(self._visit)
        return finding

    async def _publish(self) -> Finding:
        if self._subscriber is None:
            raise _Skipped("no subscriber")
        try:
            return await check_publish(self._visit, self._subscriber, self._options.probes)
        finally:
            await self._subscriber.close(end_session=True)

    async def _persistence(self) -> Finding:
        if self._options.quick:
            raise _Skipped("left out (--quick)")
        if self._visit.settings.mqtt.ephemeral:
            raise _Skipped("not needed (mqtt.ephemeral)")
        return await check_persistence(self._visit)

    async def _window(self) -> Finding:
        if self._options.quick:
            raise _Skipped("left out (--quick)")
        return await check_window(self._visit)


async def _timed(step: Step, work: Callable[[], Awaitable[Finding]]) -> StepResult:
    began = time.monotonic()
    try:
        found = await work()
    except _Skipped as reason:
        return StepResult(step, Status.SKIPPED, 0.0, str(reason))
    except StepFailed as failed:
        seconds = time.monotonic() - began
        return StepResult(step, Status.FAILED, seconds, failed.concern.text, failed.facts, failed.concern)
    status = Status.WARNED if found.concerns else Status.PASSED
    return StepResult(step, status, time.monotonic() - began, found.summary, found.facts, None, found.concerns)
