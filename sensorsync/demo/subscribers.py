"""The subscribers of a sandbox: one, or several members of one group, that may be killed and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from sensorsync.demo.child import Child
from sensorsync.demo.sandbox import Sandbox
from sensorsync.demo.subscriber import SubscriberLog
from sensorsync.errors import IncompleteError

CONNECT_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 40.0


class Subscribers:
    """One `subscribe` for each of `instances` (the names are parts of their client ids). Counts are over all their lives.

    `changed` is called after each of their status lines.
    """

    def __init__(self, sandbox: Sandbox, instances: Sequence[str], on_status: Callable[[], None]) -> None:
        self.instances = tuple(instances)
        self._sandbox = sandbox
        self._on_status = on_status
        self._all_logs: list[SubscriberLog] = []
        self._children: dict[str, Child] = {}
        self._current_logs: dict[str, SubscriberLog] = {}

    @property
    def redelivered_rows(self) -> int:
        """Rows that were there before."""
        return sum(life.redelivered_rows for life in self._all_logs)

    @property
    def new_rows(self) -> int:
        """Rows that were not there before. What a killed one stored after its last status line comes again as a duplicate."""
        return sum(life.new_rows for life in self._all_logs)

    @property
    def parked(self) -> int:
        """Messages in the dead-letter box."""
        return sum(life.parked for life in self._all_logs)

    @property
    def rate(self) -> float:
        """Stored per second, lately."""
        return sum(log.rate for log in self._current_logs.values())

    async def start(self, instance: str) -> None:
        """Return once it is subscribed. Raises CommandFailed or IncompleteError."""
        log = SubscriberLog(lambda _: self._on_status())
        self._all_logs.append(log)
        self._current_logs[instance] = log
        environ = {"SENSORSYNC_MQTT__INSTANCE": instance}
        self._children[instance] = await self._sandbox.start_monitored(
            "subscribe", on_record=log.handle_record, environ=environ
        )
        await self._sandbox.run_while_monitored(_wait_until_connected(log))

    async def kill(self, instance: str) -> None:
        """`kill -9`."""
        await self._sandbox.kill_monitored(self._children.pop(instance))

    async def wait_until_settled(self, count: int) -> None:
        """Return once the first one has stored or parked `count` different messages, or nothing moves any more."""
        await self._current_logs[self.instances[0]].wait_until_settled(count)

    async def stop(self) -> None:
        """Stop all of them in an orderly way. Raises CommandFailed when one complains."""
        for instance in self.instances:
            await self._sandbox.stop_monitored(self._children.pop(instance), STOP_TIMEOUT_SECONDS)


async def _wait_until_connected(log: SubscriberLog) -> None:
    """The embedded broker acknowledges what nobody subscribed to, and drops it: nothing is published before this returns."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            await log.connected.wait()
    except TimeoutError:
        raise IncompleteError(
            f"The subscriber did not connect within {CONNECT_TIMEOUT_SECONDS:g} s.",
            hint="Run again with --keep for its log.",
        ) from None
