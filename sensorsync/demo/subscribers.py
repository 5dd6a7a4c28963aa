"""The subscribers of a sandbox: one, or several members of one group, that may be killed and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from sensorsync.demo.child import Child
from sensorsync.demo.sandbox import Sandbox
from sensorsync.demo.subscriber import SubscriberLog
from sensorsync.errors import IncompleteError

CONNECT_SECONDS = 60.0
STOP_SECONDS = 40.0


class Subscribers:
    """One `subscribe` for each of `instances` (the names are parts of their client ids). Counts are over all their lives.

    `changed` is called after each of their status lines.
    """

    def __init__(self, sandbox: Sandbox, instances: Sequence[str], changed: Callable[[], None]) -> None:
        self.instances = tuple(instances)
        self._sandbox = sandbox
        self._changed = changed
        self._lives: list[SubscriberLog] = []
        self._children: dict[str, Child] = {}
        self._logs: dict[str, SubscriberLog] = {}

    @property
    def duplicates(self) -> int:
        """Rows that were there before."""
        return sum(life.duplicates for life in self._lives)

    @property
    def new_rows(self) -> int:
        """Rows that were not there before. What a killed one stored after its last status line comes again as a duplicate."""
        return sum(life.new_rows for life in self._lives)

    @property
    def parked(self) -> int:
        """Messages in the dead-letter box."""
        return sum(life.parked for life in self._lives)

    @property
    def rate(self) -> float:
        """Stored per second, lately."""
        return sum(log.rate for log in self._logs.values())

    async def start(self, instance: str) -> None:
        """Return once it is subscribed. Raises CommandFailed or IncompleteError."""
        log = SubscriberLog(lambda _: self._changed())
        self._lives.append(log)
        self._logs[instance] = log
        environ = {"SENSORSYNC_MQTT__INSTANCE": instance}
        self._children[instance] = await self._sandbox.start_lasting("subscribe", on_record=log.hear, environ=environ)
        await self._sandbox.while_up(_connected(log))

    async def kill(self, instance: str) -> None:
        """`kill -9`."""
        await self._sandbox.kill_lasting(self._children.pop(instance))

    async def settled(self, count: int) -> None:
        """Return once the first one has stored or parked `count` different messages, or nothing moves any more."""
        await self._logs[self.instances[0]].settled(count)

    async def stop(self) -> None:
        """Stop all of them in an orderly way. Raises CommandFailed when one complains."""
        for instance in self.instances:
            await self._sandbox.stop_lasting(self._children.pop(instance), STOP_SECONDS)


async def _connected(log: SubscriberLog) -> None:
    """The embedded broker acknowledges what nobody subscribed to, and drops it: nothing is published before this returns."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await log.connected.wait()
    except TimeoutError:
        raise IncompleteError(
            f"The subscriber did not connect within {CONNECT_SECONDS:g} s.",
            hint="Run again with --keep for its log.",
        ) from None
