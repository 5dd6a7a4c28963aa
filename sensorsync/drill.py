"""The drill of `demo`: faults under load, one after the other, each with a record of when it was and how far things were.

`kill -9` of a subscriber always; the database and the broker are restarted where they keep their data.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle

from sensorsync.config import DatabaseSettings
from sensorsync.drivers import open_store
from sensorsync.pipeline.contract import SinkMisconfigured, SinkUnavailable
from sensorsync.private import Sandbox, Service, Subscribers
from sensorsync.store import Store

logger = logging.getLogger(__name__)

KILLS = 5
STALL_SECONDS = 30.0
"""Without a new row for so long, what is not stored by then does not come any more."""
_POLL = 0.02
_FIRST, _LAST = 0.08, 0.8
"""Of all messages: how many are stored when the first fault strikes, and when the last one does."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was broken on purpose. Times in seconds, counts in messages."""

    fault: str
    at: float
    """Since the load began."""
    stored: int
    """Rows that were committed when it struck."""
    seconds: float
    """Until what was broken worked again."""


class Drill:
    """Provokes faults while a run of `total` messages is on its way. `tell` gets each of them in words."""

    def __init__(
        self,
        sandbox: Sandbox,
        subscribers: Subscribers,
        settings: DatabaseSettings,
        run: str,
        total: int,
        *,
        services: Sequence[Service],
        tell: Callable[[str], None],
    ) -> None:
        self.faults: list[Fault] = []
        self._sandbox = sandbox
        self._subscribers = subscribers
        self._settings = settings
        self._run = run
        self._total = total
        self._services = services
        self._tell = tell

    async def provoke(self) -> None:
        """Break one thing after the other, spread over the load; return once every message is stored, or none comes any more.

        A fault that would come after the last message is left out: it would prove nothing.
        """
        loop = asyncio.get_running_loop()
        began, stored, moved = loop.time(), 0, loop.time()
        plan = list(self._plan())
        step = (_LAST - _FIRST) / max(1, len(plan) - 1)
        goals = [self._total * (_FIRST + number * step) for number in range(len(plan))]
        with closing(open_store(self._settings)) as store:
            while stored < self._total and loop.time() - moved < STALL_SECONDS:
                before, stored = stored, await self._stored(store, stored)
                if stored > before:
                    moved = loop.time()
                if goals and goals[0] <= stored < self._total:
                    goals.pop(0)
                    name, act = plan.pop(0)
                    self._tell(name)
                    at = loop.time()
                    await act()
                    moved = loop.time()
                    fault = Fault(name, round(at - began, 3), stored, round(moved - at, 3))
                    self.faults.append(fault)
                    logger.info(
                        "%s at %.1fs, %s rows stored; mended after %.1fs",
                        name,
                        fault.at,
                        f"{stored:,}",
                        fault.seconds,
                        extra={"event": "fault", "fault": name, "stored": stored},
                    )
                elif stored == before:
                    await asyncio.sleep(_POLL)

    def _plan(self) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
        """Kills, with the restarts of services between them."""
        turns = cycle(self._subscribers.instances)
        services = list(self._services)
        for number in range(KILLS):
            instance = next(turns)
            yield f"kill -9 of subscriber {instance}", partial(self._kill, instance)
            if services and number:
                service = services.pop(0)
                yield f"restart of the {service.name}", partial(self._sandbox.restart_service, service)

    async def _kill(self, instance: str) -> None:
        await self._subscribers.kill(instance)
        await self._subscribers.start(instance)

    async def _stored(self, store: Store, before: int) -> int:
        with suppress(SinkUnavailable, SinkMisconfigured):
            return await asyncio.to_thread(store.count_run, self._run)
        return before
