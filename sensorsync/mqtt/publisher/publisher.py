"""The engine of the stress publisher: many publishing clients on one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Self

from sensorsync.errors import SensorsyncError
from sensorsync.mqtt.client.errors import BrokerUnavailable
from sensorsync.mqtt.client.options import ConnectOptions
from sensorsync.mqtt.publisher.client import Feed, MessageEncoder, PublishingClient
from sensorsync.mqtt.publisher.inflight import PublishStats
from sensorsync.runtime.backoff import Backoff

ANSWER_TIMEOUT = 60.0
"""Seconds without any answer from the broker after which the remaining messages count as unacknowledged."""
_STOP_ANSWER_TIMEOUT = 5.0
"""The same limit after a request to stop."""
_MAX_CONCURRENT_CONNECTS = 32
"""Connections that are opened at the same time, also after all were lost. Brokers throttle more, and their backlogs of new ones
are short.
"""


class Publisher:
    """The clients of one process, each with its connection, its topics in turn and its messages. `async with` closes them."""

    def __init__(
        self,
        clients: Sequence[tuple[ConnectOptions, Iterator[str], Feed]],
        *,
        window: int,
        message_encoder: MessageEncoder | None = None,
        backoff: Callable[[], Backoff] = lambda: Backoff(0.5, 30.0),
        answer_timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        self.stats = PublishStats()
        self.error: SensorsyncError | None = None
        """The error that ended publishing early."""
        self._answer_timeout = answer_timeout
        self._finished = asyncio.Event()
        self._stopping = False
        self._reconnect_tasks: list[asyncio.Task[None]] = []
        gate = asyncio.Semaphore(_MAX_CONCURRENT_CONNECTS)
        self._clients = [
            PublishingClient(
                options,
                topics,
                feed,
                window=window,
                connect_semaphore=gate,
                stats=self.stats,
                message_encoder=message_encoder,
                backoff=backoff(),
                on_idle=self._check_finished,
            )
            for options, topics, feed in clients
        ]
        self._unfinished = list(self._clients)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._reconnect_tasks:
            task.cancel()
        await asyncio.gather(*self._reconnect_tasks, return_exceptions=True)
        await asyncio.gather(*(client.close() for client in self._clients), return_exceptions=True)

    @property
    def window(self) -> int:
        """Number of messages that may be unacknowledged on all present connections together."""
        return sum(client.in_flight.window for client in self._clients)

    async def connect(self) -> None:
        """Connect all clients, some at a time. Raises the BrokerError of the first client that cannot connect."""
        opening = [asyncio.create_task(client.open()) for client in self._clients]
        try:
            await asyncio.gather(*opening)
        finally:
            for task in opening:
                task.cancel()
            await asyncio.gather(*opening, return_exceptions=True)
        self._reconnect_tasks = [asyncio.create_task(client.reconnect_forever()) for client in self._clients]

    async def wait_for_subscriber(self) -> None:
        """Return once there is a subscriber, or a connection is lost for ever. The first message serves as the probe."""
        probe = asyncio.create_task(self._clients[0].wait_for_subscriber())
        try:
            await asyncio.wait({probe, *self._reconnect_tasks}, return_when=asyncio.FIRST_COMPLETED)
            if probe.done():
                probe.result()
        finally:
            probe.cancel()
            await asyncio.gather(probe, return_exceptions=True)

    async def publish(self) -> None:
        """Send everything and wait for the answers. After an early end, `error` holds the reason. `stop` ends it early, too."""
        for client in self._clients:
            client.may_send_new = not self._stopping
            client.send_available()
        self._check_finished()
        finished = asyncio.create_task(self._finished.wait())
        seen, since = self._progress(), time.monotonic()
        while not finished.done():
            await asyncio.wait({finished, *self._reconnect_tasks}, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            if self._record_failure():
                break
            if self._progress() != seen or not self._awaits_broker():
                seen, since = self._progress(), time.monotonic()
            elif time.monotonic() - since > (
                patience := min(self._answer_timeout, _STOP_ANSWER_TIMEOUT if self._stopping else inf)
            ):
                self.error = BrokerUnavailable(f"the broker answered nothing for {patience:g} s")
                break
        finished.cancel()

    def stop(self) -> None:
        """Send nothing new. `publish` returns when all messages in flight are answered."""
        self._stopping = True
        for client in self._clients:
            client.may_send_new = False
        self._check_finished()

    def _check_finished(self) -> None:
        # A client that is finished stays finished, so a finished one is never checked again.
        while self._unfinished and self._is_finished(self._unfinished[-1]):
            self._unfinished.pop()
        if not self._unfinished:
            self._finished.set()

    def _is_finished(self, client: PublishingClient) -> bool:
        return client.in_flight.empty if self._stopping else client.done

    def _progress(self) -> tuple[int, int]:
        return self.stats.sent, self.stats.answered

    def _awaits_broker(self) -> bool:
        return any(not client.in_flight.empty or client.in_flight.window == 0 for client in self._clients)

    def _record_failure(self) -> bool:
        for error in self._reconnect_errors():
            self.error = error
            return True
        return False

    def _reconnect_errors(self) -> Iterator[SensorsyncError]:
        for task in self._reconnect_tasks:
            if task.done() and not task.cancelled():
                error = task.exception()
                if not isinstance(error, SensorsyncError):
                    task.result()  # raises: this is a bug
                else:
                    yield error
