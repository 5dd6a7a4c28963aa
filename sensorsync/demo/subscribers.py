"""The subscribers of a sandbox: one, or several members of one group. They may be killed and started again."""

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
    """One `subscribe` for each of `instances`, whose names are parts of the client ids.

    The counts include those of subscribers that were killed. `on_status` is called after each of their status lines.
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
        """Rows that were in the table before."""
        return sum(log.redelivered_rows for log in self._all_logs)

    @property
    def new_rows(self) -> int:
        """Rows that were not there before.

        Rows that a killed subscriber stored after its last status line come again as redelivered rows.
        """
        return sum(log.new_rows for log in self._all_logs)

    @property
    def parked(self) -> int:
        """Messages in the dead-letter box."""
        return sum(log.parked for log in self._all_logs)

    @property
    def rate(self) -> float:
        """Messages stored per second, as of the last status lines."""
        return sum(log.rate for log in self._current_logs.values())

    async def start(self, instance: str) -> None:
        """Start a subscriber, and return once it is subscribed. Raises CommandFailed or IncompleteError."""
        log = SubscriberLog(lambda _: self._on_status())
        self._all_logs.append(log)
        self._current_logs[instance] = log
        environ = {"SENSORSYNC_MQTT__INSTANCE": instance}
        self._children[instance] = await self._sandbox.start_monitored(
            "subscribe", on_record=log.handle_record, environ=environ
        )
        await self._sandbox.run_while_monitored(_wait_until_connected(log))

    async def kill(self, instance: str) -> None:
        """Kill a subscriber with `kill -9`."""
        await self._sandbox.kill_monitored(self._children.pop(instance))

    async def wait_until_settled(self, count: int) -> None:
        """Return once the first subscriber has stored or parked `count` different messages, or makes no more progress."""
        await self._current_logs[self.instances[0]].wait_until_settled(count)

    async def stop(self) -> None:
        """Stop all subscribers in an orderly way. Raises CommandFailed when one reports a failure."""
        for instance in self.instances:
            await self._sandbox.stop_monitored(self._children.pop(instance), STOP_TIMEOUT_SECONDS)


async def _wait_until_connected(log: SubscriberLog) -> None:
    """Wait until the subscriber is subscribed. Raises IncompleteError.

    The embedded broker acknowledges messages without a subscriber, and drops them. So nothing is published before this
    returns.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            await log.connected.wait()
    except TimeoutError:
        raise IncompleteError(
            f"The subscriber did not connect within {CONNECT_TIMEOUT_SECONDS:g} s.",
            hint="Run again with --keep for its log.",
        ) from None
