"""The drill of `demo`: faults under load, one after the other, each with a record of when it was and how far things were.

`kill -9` of a subscriber always; the database and the broker are restarted where they keep their data.
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
"""Without a new row for so long, what is not stored by then does not come any more."""
FIRST_ROW_SECONDS = 120.0
"""The same before the first row: the publishers have to start."""
_POLL = 0.02
_FIRST_FAULT_FRACTION, _LAST_FAULT_FRACTION = 0.08, 0.8
"""Of all messages: how many are stored when the first fault strikes, and when the last one does. Later, when a restart took long."""
MIN_ROWS_BETWEEN_FAULTS = 500
"""Messages that are stored between two faults, at least."""
MIN_ROWS_AFTER_FAULT = 1000
"""Messages that are still to be stored when a fault strikes, and a tenth of all, at least; on the embedded broker alone.

Both are several windows of two subscribers on the embedded broker. It loses messages when the second one is killed before it has
acknowledged what it held when the first one was, and it never delivers what a killed one held of the last messages of all.
See docs/explanation/embedded-broker.md.
"""


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """Something that was broken on purpose. Times in seconds."""

    fault: str
    """`subscriber killed`, `database restarted` or `broker restarted`."""
    target: str
    """Which one."""
    at: float
    """Since the first row was stored."""
    stored: int
    """Rows that were committed when it struck."""
    seconds: float
    """Until what was broken worked again."""


class _PlannedFault(NamedTuple):
    fault: str
    target: str
    inject: Callable[[], Awaitable[None]]
    ready: Callable[[], bool] = lambda: True
    """Whether it may strike now."""


class FaultInjection:
    """Provokes faults while a run of `total` messages is on its way. `services` are restarted; `tell` gets each fault in words.

    `published`: whether the publishers have done their work. A restarted broker that keeps no shared subscription would refuse what
    they send until the subscriber is back. `embedded_broker`: the broker is the embedded one.
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
        """The kinds of faults that were planned and never came: the load was over before."""
        return sorted({plan.fault for plan in self._plan} - {fault.fault for fault in self.faults})

    async def run(self) -> None:
        """Break one thing after the other, spread over the load; return once every message is stored, or none comes any more.

        A fault that would come too near to the last message is left out.
        """
        loop = asyncio.get_running_loop()
        step = (_LAST_FAULT_FRACTION - _FIRST_FAULT_FRACTION) / max(1, len(self._plan) - 1)
        due = deque(
            (self._total * (_FIRST_FAULT_FRACTION + number * step), plan) for number, plan in enumerate(self._plan)
        )
        began = moved = loop.time()
        stored = 0
        next_fault: int | None = 0
        """Rows that have to be there; None from a fault until they are counted once more."""
        with closing(open_store(self._settings)) as store:
            while stored < self._total and loop.time() - moved < (STALL_SECONDS if stored else FIRST_ROW_SECONDS):
                before, counted = stored, await self._count_rows(store)
                if counted is not None:
                    stored = counted
                    if next_fault is None:  # what the others stored before says nothing of what they hold since
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
            "%s at %.1f s, with %s rows stored; mended after %.1f s",
            words,
            fault.at,
            f"{stored:,}",
            fault.seconds,
            extra={"event": "fault", **asdict(fault)},
        )

    def _plan_faults(self) -> Iterator[_PlannedFault]:
        """Kills, with the restarts of services between them."""
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
        """`kill -9`, and a new start."""
        await self._subscribers.kill(instance)
        await self._subscribers.start(instance)

    async def _count_rows(self, store: Store) -> int | None:
        """Rows in the table; None while the database does not answer."""
        with suppress(SinkUnavailable, SinkMisconfigured):
            return await asyncio.to_thread(store.count_run_rows, self._run_id)
        return None
