"""One publishing client. It sends the messages that are due and that its window allows, and reconnects after each loss."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from sensorsync.errors import SensorsyncError
from sensorsync.mqtt.client.base import BrokerConnection
from sensorsync.mqtt.client.broken_packets import ReceivedPacket
from sensorsync.mqtt.client.errors import BrokerRefused, BrokerUnavailable
from sensorsync.mqtt.client.open import open_connection
from sensorsync.mqtt.client.options import ConnectOptions
from sensorsync.mqtt.publisher.feed import Burst
from sensorsync.mqtt.publisher.inflight import InFlightPublishes, PublishStats
from sensorsync.runtime.backoff import Backoff

logger = logging.getLogger(__name__)

MAX_BURST = 128
"""Messages that are encoded and written at once. One system call then carries many, and acknowledgements are still read in time."""
_SUBSCRIBER_RETRY_INTERVAL = 0.25

MessageEncoder = Callable[[bytes], bytes]
"""A function that makes a message of a payload: signed, encrypted, or both."""


class Feed(Protocol):
    """Source of a client's messages. `now` is Unix time in seconds."""

    @property
    def exhausted(self) -> bool:
        """True when no more messages will come."""
        ...

    def take(self, limit: int, now: float) -> Burst:
        """Return the next messages that are due, at most `limit`."""
        ...

    def due_in(self, now: float) -> float:
        """Return the seconds until the next message is due."""
        ...


class PublishingClient:
    """One client id with its window and its connection, which is opened again after each loss."""

    def __init__(
        self,
        options: ConnectOptions,
        topics: Iterator[str],
        feed: Feed,
        *,
        window: int,
        connect_semaphore: asyncio.Semaphore,
        stats: PublishStats,
        message_encoder: MessageEncoder | None,
        backoff: Backoff,
        on_idle: Callable[[], None],
    ) -> None:
        self.options = options
        self.in_flight = InFlightPublishes(topics, stats)
        self.feed = feed
        self.may_send_new = False
        """True while new messages may be sent. Lost ones are sent again in any case."""
        self._window = window
        self._connect_semaphore = connect_semaphore
        self._stats = stats
        self._message_encoder = message_encoder
        self._backoff = backoff
        self._on_idle = on_idle
        self._loop = asyncio.get_running_loop()
        self._unix_time_offset = time.time() - self._loop.time()
        self._connection: BrokerConnection | None = None
        self._error: SensorsyncError | None = None
        self._lost_event = asyncio.Event()
        self._acks_received = asyncio.Event()
        self._writing_paused = False
        self._send_timer: asyncio.TimerHandle | None = None

    @property
    def done(self) -> bool:
        """True when all messages were sent and answered."""
        return self.feed.exhausted and self.in_flight.empty

    async def open(self) -> None:
        """Connect once, as soon as the semaphore allows it. Raises BrokerError."""
        async with self._connect_semaphore:
            connection = await open_connection(self.options, self)
        if not self.in_flight.window:
            error = BrokerRefused(f"broker {self.options.address} allows no QoS 1", hint="enable QoS 1 in the broker")
            connection.abort(error)
            raise error

    async def reconnect_forever(self) -> None:
        """Reconnect whenever the connection is lost, without end. Raises BrokerRefused, SessionTakenOver."""
        while True:
            await self._lost_event.wait()
            error = self._error
            while self._lost_event.is_set():
                if not isinstance(error, BrokerUnavailable):
                    raise error or BrokerUnavailable
                delay = self._backoff.next_delay()
                event = {"event": "publisher_lost", "client_id": self.options.client_id}
                logger.warning("%s: %s; next retry in %.1fs", self.options.client_id, error, delay, extra=event)
                await asyncio.sleep(delay)
                try:
                    await self.open()
                except SensorsyncError as failure:
                    error = failure
            self._stats.reconnects += 1

    async def wait_for_subscriber(self) -> None:
        """Send the first message repeatedly until a subscriber receives it. It counts once, as sent and acknowledged."""
        self.in_flight.awaiting_subscriber = True
        try:
            self.in_flight.undelivered = self._take_encoded(1)[0]
            while self.in_flight.undelivered or not self.in_flight.empty:
                self._acks_received.clear()
                if self.in_flight.undelivered and self._connection is not None and self._connection.alive:
                    payloads, self.in_flight.undelivered = self.in_flight.undelivered, []
                    self._connection.send(self.in_flight.publish(payloads, (self._unix_time(),)))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._acks_received.wait(), _SUBSCRIBER_RETRY_INTERVAL)
                if self.in_flight.undelivered:
                    await asyncio.sleep(_SUBSCRIBER_RETRY_INTERVAL)
        finally:
            self.in_flight.awaiting_subscriber = False

    def send_available(self) -> None:
        """Send as many messages as the window and the socket's buffer have room for."""
        connection, in_flight = self._connection, self.in_flight
        while connection is not None and connection.alive and not self._writing_paused:
            if in_flight.has_resends:
                packets = in_flight.resend(MAX_BURST)
                if not packets:
                    return
            else:
                room = min(in_flight.free_slots, MAX_BURST)
                if not self.may_send_new or room <= 0:
                    return
                payloads, since = self._take_encoded(room)
                if not payloads:
                    self._schedule_next_send()
                    return
                packets = in_flight.publish(payloads, since)
                self._stats.last_sent = self._unix_time()
            connection.send(packets)

    async def close(self) -> None:
        """Disconnect."""
        if self._send_timer is not None:
            self._send_timer.cancel()
        if self._connection is not None:
            await self._connection.close()

    # -- ConnectionHandler ---------------------------------------------------------------------------------------------

    def connection_ready(self, connection: BrokerConnection) -> None:
        """See ConnectionHandler."""
        self._lost_event.clear()
        self._connection = connection
        self._error = None
        self._writing_paused = False
        self._backoff.reset()
        # [MQTT-3.3.4-9]: the broker's Receive Maximum bounds the number of our unacknowledged messages.
        connack = connection.connack
        allowed = connack.receive_max if connack is not None and int(connack.max_qos) >= 1 else 0
        self.in_flight.window = min(self._window, allowed)
        self.send_available()

    def packets_received(self, packets: Sequence[ReceivedPacket], *, more: bool) -> None:  # noqa: ARG002 - the protocol's
        """See ConnectionHandler."""
        self.in_flight.receive_acks(packets, self._unix_time())
        self._acks_received.set()
        self.send_available()
        if self.in_flight.empty and (self.feed.exhausted or not self.may_send_new):
            self._on_idle()

    def connection_lost(self, error: SensorsyncError | None) -> None:
        """See ConnectionHandler."""
        self._connection = None
        self.in_flight.connection_lost()
        if error is not None:
            self._error = error
            self._lost_event.set()

    def writing_paused(self, paused: bool) -> None:
        """See ConnectionHandler."""
        self._writing_paused = paused
        if not paused:
            self.send_available()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _unix_time(self) -> float:
        """Return the Unix time in seconds on a clock that never jumps.

        Setting the system clock must neither change a latency nor delay messages that are due.
        """
        return self._unix_time_offset + self._loop.time()

    def _take_encoded(self, limit: int) -> tuple[list[bytes], Iterable[float]]:
        payloads, since = self.feed.take(limit, self._unix_time())
        return (payloads if self._message_encoder is None else list(map(self._message_encoder, payloads))), since

    def _schedule_next_send(self) -> None:
        if self.feed.exhausted:
            if self.in_flight.empty:
                self._on_idle()
        elif self._send_timer is None or self._send_timer.when() <= self._loop.time():
            # The selector wakes up on whole milliseconds at best, and then serves all clients that are due by then.
            self._send_timer = self._loop.call_later(self.feed.due_in(self._unix_time()), self.send_available)
