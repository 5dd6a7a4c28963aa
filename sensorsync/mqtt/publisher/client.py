"""One publishing client: it sends what is due and what its window allows, and makes its connection again whenever that is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from sensorsync.errors import SensorsyncError
from sensorsync.mqtt.client.base import Conversation
from sensorsync.mqtt.client.broken_packets import Received
from sensorsync.mqtt.client.errors import BrokerRefused, BrokerUnavailable
from sensorsync.mqtt.client.open import connect
from sensorsync.mqtt.client.options import ConnectOptions
from sensorsync.mqtt.publisher.feed import Burst
from sensorsync.mqtt.publisher.inflight import Outbox, PublishStats
from sensorsync.runtime.backoff import Backoff

logger = logging.getLogger(__name__)

BURST = 128
"""Messages that are made and written at once: enough that one system call carries many, few enough that acks are read in time."""
_PROBE_INTERVAL = 0.25

Seal = Callable[[bytes], bytes]
"""Payload -> message: signed, encrypted, or both."""


class Feed(Protocol):
    """Where a client's messages come from. `now` is Unix time in seconds."""

    @property
    def exhausted(self) -> bool:
        """Nothing more will come."""
        ...

    def take(self, limit: int, now: float) -> Burst:
        """The next messages that are due, at most `limit`."""
        ...

    def due_in(self, now: float) -> float:
        """Seconds until the next message is due."""
        ...


class PublishingClient:
    """One client id, its window and its connection, made again whenever it is lost."""

    def __init__(
        self,
        options: ConnectOptions,
        topics: Iterator[str],
        feed: Feed,
        *,
        window: int,
        gate: asyncio.Semaphore,
        stats: PublishStats,
        seal: Seal | None,
        backoff: Backoff,
        idle: Callable[[], None],
    ) -> None:
        self.options = options
        self.outbox = Outbox(topics, stats)
        self.feed = feed
        self.sending = False
        """Whether new messages may leave; lost ones are sent again in any case."""
        self._window = window
        self._gate = gate
        self._stats = stats
        self._seal = seal
        self._backoff = backoff
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._epoch = time.time() - self._loop.time()
        self._connection: Conversation | None = None
        self._error: SensorsyncError | None = None
        self._lost = asyncio.Event()
        self._answered = asyncio.Event()
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def done(self) -> bool:
        """All its messages were sent and answered."""
        return self.feed.exhausted and self.outbox.empty

    async def open(self) -> None:
        """Connect once, when the gate lets us. Raises BrokerError."""
        async with self._gate:
            connection = await connect(self.options, self)
        if not self.outbox.window:
            error = BrokerRefused(f"broker {self.options.where} allows no QoS 1", hint="enable QoS 1 in the broker")
            connection.abort(error)
            raise error

    async def keep(self) -> None:
        """Connect again whenever the connection is lost, for ever. Raises BrokerRefused, SessionTakenOver."""
        while True:
            await self._lost.wait()
            error = self._error
            while self._lost.is_set():
                if not isinstance(error, BrokerUnavailable):
                    raise error or BrokerUnavailable
                delay = self._backoff.next()
                event = {"event": "publisher_lost", "client_id": self.options.client_id}
                logger.warning("%s: %s; next try in %.1fs", self.options.client_id, error, delay, extra=event)
                await asyncio.sleep(delay)
                try:
                    await self.open()
                except SensorsyncError as failure:
                    error = failure
            self._stats.reconnects += 1

    async def probe(self) -> None:
        """Send the first message again and again until somebody gets it. It counts once, as sent and acknowledged."""
        self.outbox.probing = True
        try:
            self.outbox.returned = self._take(1)[0]
            while self.outbox.returned or not self.outbox.empty:
                self._answered.clear()
                if self.outbox.returned and self._connection is not None and self._connection.alive:
                    payloads, self.outbox.returned = self.outbox.returned, []
                    self._connection.send(self.outbox.launch(payloads, (self._now(),)))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._answered.wait(), _PROBE_INTERVAL)
                if self.outbox.returned:
                    await asyncio.sleep(_PROBE_INTERVAL)
        finally:
            self.outbox.probing = False

    def pump(self) -> None:
        """Send what the window and the socket's buffer have room for."""
        connection, outbox = self._connection, self.outbox
        while connection is not None and connection.alive and not self._paused:
            if outbox.owes_resend:
                packets = outbox.resend(BURST)
                if not packets:
                    return
            else:
                room = min(outbox.room, BURST)
                if not self.sending or room <= 0:
                    return
                payloads, since = self._take(room)
                if not payloads:
                    self._wait_for_feed()
                    return
                packets = outbox.launch(payloads, since)
                self._stats.last_sent = self._now()
            connection.send(packets)

    async def close(self) -> None:
        """DISCONNECT."""
        if self._timer is not None:
            self._timer.cancel()
        if self._connection is not None:
            await self._connection.close()

    # -- Handler -------------------------------------------------------------------------------------------------------

    def connection_ready(self, connection: Conversation) -> None:
        """See Handler."""
        self._lost.clear()
        self._connection = connection
        self._error = None
        self._paused = False
        self._backoff.reset()
        # [MQTT-3.3.4-9]: the broker's Receive Maximum bounds what we may have unacknowledged.
        connack = connection.connack
        allowed = connack.receive_max if connack is not None and int(connack.max_qos) >= 1 else 0
        self.outbox.window = min(self._window, allowed)
        self.pump()

    def packets_received(self, packets: Sequence[Received], *, more: bool) -> None:  # noqa: ARG002 - the protocol's
        """See Handler."""
        self.outbox.receive(packets, self._now())
        self._answered.set()
        self.pump()
        if self.outbox.empty and (self.feed.exhausted or not self.sending):
            self._idle()

    def connection_lost(self, error: SensorsyncError | None) -> None:
        """See Handler."""
        self._connection = None
        self.outbox.connection_lost()
        if error is not None:
            self._error = error
            self._lost.set()

    def writing_paused(self, paused: bool) -> None:
        """See Handler."""
        self._paused = paused
        if not paused:
            self.pump()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        """Unix time in seconds that never jumps: a clock that is set anew must neither make a latency nor hold back what is due."""
        return self._epoch + self._loop.time()

    def _take(self, limit: int) -> tuple[list[bytes], Iterable[float]]:
        payloads, since = self.feed.take(limit, self._now())
        return (payloads if self._seal is None else list(map(self._seal, payloads))), since

    def _wait_for_feed(self) -> None:
        if self.feed.exhausted:
            if self.outbox.empty:
                self._idle()
        elif self._timer is None or self._timer.when() <= self._loop.time():
            # The selector wakes up on whole milliseconds at best, and then for all clients whose time has come since.
            self._timer = self._loop.call_later(self.feed.due_in(self._now()), self.pump)
