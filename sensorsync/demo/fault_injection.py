"""The fault injection of `demo --drill`: faults under load, one after the other.

A subscriber is always killed with `kill -9`. The database and the broker are restarted where they keep their data. Each
fault is recorded with its time and the number of rows stored by then.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from typing import NamedTuple

from sensorsync.config import DatabaseSettings
from sensorsync.demo import Sandbox, Service, Subscribers
from sensorsync.pipeline.contract import SinkMisconfigured, SinkUnavailable
from sensorsync.storage.open import open_store
from sensorsync.storage.store import Store

logger = logging.getLogger(__name__)

SUBSCRIBER_KILLS = 5
STALL_SECONDS = 30.0
"""Seconds without a new row after which no more rows are expected."""
FIRST_ROW_SECONDS = 120.0
"""The same time before the first row, because the publishers have to start."""
_POLL = 0.02
_FIRST_FAULT_FRACTION, _LAST_FAULT_FRACTION = 0.08, 0.8
"""Fractions of all messages that are stored when the first and the last fault are injected.

A fault comes later when a restart took long.
"""
MIN_ROWS_BETWEEN_FAULTS = 500
"""Messages that are stored between two faults, at least."""
MIN_ROWS_AFTER_FAULT = 1000
"""Messages that are not stored yet when a fault is injected, at least; on the embedded broker only.

A tenth of all messages is another minimum. This and MIN_ROWS_BETWEEN_FAULTS are several windows of two subscribers on
the embedded broker. That broker loses messages when the second subscriber is killed before it has acknowledged what it
held when the first one was killed. It also never delivers what a killed subscriber held of the last messages of all.
See docs/explanation/embedded-broker.md.
"""


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """A fault that was injected. Times are in seconds."""

    fault: str
    """`subscriber killed`, `database restarted` or `broker restarted`."""
    target: str
    """The instance or the service."""
    at: float
    """Time since the first row was stored."""
    stored: int
    """Rows that were committed when the fault was injected."""
    seconds: float
    """Time until the target worked again."""


class _PlannedFault(NamedTuple):
    fault: str
    target: str
    inject: Callable[[], Awaitable[None]]
    ready: Callable[[], bool] = lambda: True
    """A function that returns True when the fault may be injected now."""


class FaultInjection:
    """The injection of faults while a run of `total` messages is published and stored.

    `services` are restarted, and `on_fault` is called with each fault in words. `all_published` returns True when the
    publishers are done. A restarted broker that keeps no shared subscription would refuse their messages until the
    subscriber is back. `embedded_broker` is True when the broker is the embedded one.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        subscribers: Subscribers,
        settings: DatabaseSettings,
        run_id: str,
        total: int,
        *,
        services: Mapping[str, Service],
        all_published: Callable[[], bool],
        embedded_broker: bool,
        on_fault: Callable[[str], None],
    ) -> None:
        self.faults: list[InjectedFault] = []
        self._sandbox = sandbox
        self._subscribers = subscribers
        self._settings = settings
        self._run_id = run_id
        self._total = total
        self._services = services
        self._all_published = all_published
        self._last_fault_row = total - max(MIN_ROWS_AFTER_FAULT, total / 10) if embedded_broker else total - 1
        self._on_fault = on_fault
        self._plan = list(self._plan_faults())

    @property
    def skipped(self) -> list[str]:
        """The kinds of faults that were planned and not injected, because the load ended before."""
        return sorted({plan.fault for plan in self._plan} - {fault.fault for fault in self.faults})

    async def run(self) -> None:
        """Inject the faults one after the other, spread over the load. A fault too near to the last message is skipped.

        Return once every message is stored, or no more are expected.
        """
        loop = asyncio.get_running_loop()
        step = (_LAST_FAULT_FRACTION - _FIRST_FAULT_FRACTION) / max(1, len(self._plan) - 1)
        due = deque(
            (self._total * (_FIRST_FAULT_FRACTION + number * step), plan) for number, plan in enumerate(self._plan)
        )
        began = moved = loop.time()
        stored = 0
        next_fault: int | None = 0
        """Rows that must be stored before the next fault. None from a fault until the rows are counted again."""
        with closing(open_store(self._settings)) as store:
            while stored < self._total and loop.time() - moved < (STALL_SECONDS if stored else FIRST_ROW_SECONDS):
                before, counted = stored, await self._count_rows(store)
                if counted is not None:
                    stored = counted
                    if next_fault is None:  # earlier rows do not show how much the other instances hold now
                        next_fault = stored + MIN_ROWS_BETWEEN_FAULTS
                if stored > before:
                    moved = loop.time()
                    began = began if before else moved
                may_strike = next_fault is not None and next_fault <= stored <= self._last_fault_row
                if may_strike and due and due[0][0] <= stored and due[0][1].ready():
                    await self._inject(due.popleft()[1], began, stored)
                    next_fault, moved = None, loop.time()
                elif stored == before:
                    await asyncio.sleep(_POLL)

    async def _inject(self, plan: _PlannedFault, began: float, stored: int) -> None:
        loop = asyncio.get_running_loop()
        words = f"{plan.fault} ({plan.target})"
        self._on_fault(words)
        at = loop.time()
        await plan.inject()
        fault = InjectedFault(plan.fault, plan.target, round(at - began, 3), stored, round(loop.time() - at, 3))
        self.faults.append(fault)
        logger.info(
            "%s at %.1f s, with %s rows stored; working again after %.1f s",
            words,
            fault.at,
            f"{stored:,}",
            fault.seconds,
            extra={"event": "fault", **asdict(fault)},
        )

    def _plan_faults(self) -> Iterator[_PlannedFault]:
        """Yield the kills, with the restarts of services between them."""
        turns = cycle(self._subscribers.instances)
        services = list(self._services.items())
        for number in range(SUBSCRIBER_KILLS):
            instance = next(turns)
            yield _PlannedFault("subscriber killed", instance, partial(self._kill, instance))
            if services and number:
                kind, service = services.pop(0)
                ready = self._all_published if kind == "broker" else lambda: True
                yield _PlannedFault(
                    f"{kind} restarted", service.name, partial(self._sandbox.restart_service, service), ready
                )

    async def _kill(self, instance: str) -> None:
        """Kill a subscriber with `kill -9`, and start it again."""
        await self._subscribers.kill(instance)
        await self._subscribers.start(instance)

    async def _count_rows(self, store: Store) -> int | None:
        """Return the number of rows in the table; None while the database does not answer."""
        with suppress(SinkUnavailable, SinkMisconfigured):
            return await asyncio.to_thread(store.count_run_rows, self._run_id)
        return None
