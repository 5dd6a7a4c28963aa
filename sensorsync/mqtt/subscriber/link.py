"""One connection of a shared-subscription group, opened again after each loss."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from mqtt5 import (
    PubAckPacket,
    QoS,
    RetainHandling,
    SubAckPacket,
    SubscribePacket,
    TopicFilter,
    UnsubAckPacket,
    UnsubscribePacket,
)

from sensorsync.errors import BrokerError, SensorsyncError
from sensorsync.mqtt.client.base import BrokerConnection
from sensorsync.mqtt.client.broken_packets import ReceivedPacket
from sensorsync.mqtt.client.errors import BrokerRefused, BrokerUnavailable, EmptyTopic, SessionTakenOver, suback_error
from sensorsync.mqtt.client.open import open_connection
from sensorsync.mqtt.client.options import ConnectOptions
from sensorsync.mqtt.subscriber.deliveries import deliveries_from_packets
from sensorsync.mqtt.subscriber.pacing import ConnectGate
from sensorsync.mqtt.subscriber.session_registry import SessionRecord, SessionRegistry
from sensorsync.pipeline.contract import AckToken, DeliveryHandler
from sensorsync.pipeline.counters import PipelineCounters
from sensorsync.pipeline.ledger import AckLedger
from sensorsync.runtime.backoff import Backoff

logger = logging.getLogger(__name__)

SESSION_LOST_CAUSES = (
    "Likely causes: the broker was restarted without persistence, the session expired, or the broker killed it because it held"
    " too much (EMQX: set force_shutdown { max_mailbox_size = 100000, max_heap_size = 512MB }, see docs/how-to/own-broker.md)"
)


class Link:
    """One client id with its connection and its ledger.

    `topic_filters` are the filters as sent. Without filters the link only drains its session.
    """

    def __init__(
        self,
        number: int,
        options: ConnectOptions,
        topic_filters: Sequence[str],
        *,
        inlet: DeliveryHandler,
        counters: PipelineCounters,
        backoff: Backoff,
        registry: SessionRegistry | None,
        session_expected: bool,
        gate: ConnectGate,
        drain_quiet: float,
    ) -> None:
        self.number = number
        self.options = options
        self.ledger = counters.ledgers[number] = AckLedger(number)
        self.last_delivery_at = 0.0
        """Monotonic time of the last arrival, in seconds."""
        self.last_ack_at = 0.0
        self.connected_once = False
        """True when the broker has accepted this link at least once."""
        self.session_expected = session_expected
        """True when the broker should hold a session of this link."""
        self.drained = False
        """True when the session is unsubscribed and all its messages are settled. It may then be ended."""
        self._topic_filters = tuple(topic_filters)
        self._inlet = inlet
        self._counters = counters
        self._backoff = backoff
        self._registry = registry
        self._gate = gate
        self._drain_quiet = drain_quiet
        self._loop = asyncio.get_running_loop()
        self._connection: BrokerConnection | None = None
        self._pending_answer: asyncio.Future[ReceivedPacket] | None = None
        self._lost_event = asyncio.Event()
        self._window_freed = asyncio.Event()
        self._error: SensorsyncError | None = None
        self._receiving = True
        self._paused = False
        self._quiet_since = 0.0
        self._arrivals = 0
        """Number of messages that have arrived, those that arrive again included."""
        self._subscribed_connection: BrokerConnection | None = None
        """The connection for which `open` completed last."""

    # -- lifecycle -----------------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """True when the connection is up."""
        return self._connection is not None and self._connection.alive

    @property
    def ready(self) -> bool:
        """True when the link is connected and subscribed, and `open` has finished."""
        return self.connected and self._subscribed_connection is self._connection

    @property
    def connection(self) -> BrokerConnection | None:
        """The latest connection, or None before the first one."""
        return self._connection

    async def open(self) -> None:
        """Connect and subscribe once, as soon as the gate allows it. Raises BrokerError."""
        async with self._gate.passing(has_session=self.session_expected):
            await self._open()

    async def _open(self) -> None:
        self._lost_event.clear()
        same_would_follow = isinstance(self._error, EmptyTopic)  # at once, because the broker sends the message again
        self._error = None
        self.ledger.start_epoch()
        try:
            await open_connection(self.options, self)
            await self._subscribe()
        except BrokerError as error:
            self._error = error
            self._lost_event.set()  # so that `reconnect_forever` tries again
            raise
        self.connected_once, self._subscribed_connection = True, self._connection
        if not same_would_follow:
            self._backoff.reset()
        if self._paused:
            self.pause()

    async def reconnect_forever(self) -> None:
        """Open the connection again whenever it is lost, without end.

        Raises SessionTakenOver, because two instances would otherwise disconnect each other for ever.
        """
        while True:
            await self._lost_event.wait()
            error: SensorsyncError | None = self._error
            if isinstance(error, SessionTakenOver):
                raise error
            while True:
                delay = self._backoff.next_delay()
                logger.warning(
                    "link %d: %s; next retry in %.1fs",
                    self.number,
                    error,
                    delay,
                    extra={"event": "link_lost", "link": self.number},
                )
                await asyncio.sleep(delay)
                await self.wait_for_window_space()
                try:
                    await self.open()
                except BrokerError as failure:
                    error = failure
                    continue
                break
            self._counters.reconnects += 1
            logger.info("link %d: reconnected", self.number, extra={"event": "link_up", "link": self.number})

    async def drain(self) -> None:
        """Unsubscribe, and return once the session is `drained` or the connection is lost. Raises BrokerError.

        A broker may hand out its queue with pauses, so `mqtt.drain_quiet` must have passed without a message.
        """
        before, limit = self._arrivals, self._drain_quiet
        record = self._registry.get(self.options.client_id) if self._registry else None
        patterns = record.topic_filters if record else self._topic_filters
        if patterns:
            await self._request(UnsubscribePacket(2, list(patterns)))
        self._quiet_since, connection = self._loop.time(), self._connection
        while self.connected and self._connection is connection:  # a new connection has subscribed again
            quiet = self._loop.time() - max(self.last_delivery_at, self._quiet_since)
            reading = self._receiving and not self._paused  # otherwise the socket may hold unread messages
            if quiet >= limit and self.ledger.in_flight == 0 and reading and await self._confirm_drained():
                self.drained = True
                logger.info(
                    "session %s is drained: %d message(s) came after it was unsubscribed",
                    self.options.client_id,
                    self._arrivals - before,
                    extra={"event": "drained", "link": self.number, "messages": self._arrivals - before},
                )
                return
            await asyncio.sleep(max(limit - quiet, limit / 10))

    async def _confirm_drained(self) -> bool:
        """Return True when the broker has read our last PUBACK and has sent nothing since.

        On a slow network, silence alone is not a proof.
        """
        before, connection = self.last_delivery_at, self._connection
        answered = connection is not None and await connection.ping(self.options.connect_timeout)
        return answered and self.last_delivery_at == before and self.ledger.in_flight == 0

    def reconnect(self, reason: str) -> None:
        """Drop the connection. `reconnect_forever` opens it again, and the broker sends unacknowledged messages again."""
        if self._connection is not None:
            self._connection.abort(BrokerUnavailable(f"sensorsync closed the connection: {reason}"))

    def stop_receiving(self) -> None:
        """Take no more messages. Acknowledgements are still sent."""
        self._receiving = False
        if self._connection is not None:
            self._connection.pause_reading()

    async def close(self, *, end_session: bool = False) -> None:
        """Disconnect. `end_session` ends a drained session, and removes it from the registry.

        Otherwise the broker keeps the session and its messages.
        """
        if self._connection is not None:
            end = end_session and self.connected and self.drained
            if await self._connection.close(end_session=end) and end and self._registry is not None:
                self._registry.remove(self.options.client_id)

    def pause(self) -> None:
        """Leave arriving messages in the socket."""
        self._paused = True
        if self._connection is not None and self._pending_answer is None:
            self._connection.pause_reading()

    def resume(self) -> None:
        """Read from the socket again."""
        self._paused = False
        self._quiet_since = self._loop.time()
        if self._connection is not None:
            self._connection.resume_reading()

    # -- acknowledgements ----------------------------------------------------------------------------------------------------

    def settle(self, tokens: Sequence[AckToken]) -> int:
        """Send the PUBACKs that these tokens release, in one write. Return their number."""
        released = self.ledger.settle(tokens)
        if released and self._connection is not None:
            self._connection.send([PubAckPacket(packet_id) for packet_id in released])
        self._window_freed.set()
        return len(released)

    async def wait_for_window_space(self) -> None:
        """Wait until the deliveries in memory fit into one window.

        Deliveries of lost connections are still in memory. One window more of them at most keeps memory bounded.
        """
        while self.ledger.in_flight + self.ledger.stale_deliveries > self.options.receive_maximum:
            self._window_freed.clear()
            await self._window_freed.wait()

    # -- called by the connection --------------------------------------------------------------------------------------------

    def connection_ready(self, connection: BrokerConnection) -> None:
        """Take the connection after CONNACK. Messages of the resumed session may be in the same read."""
        self._connection = connection
        self._counters.links += 1

    def packets_received(self, packets: Sequence[ReceivedPacket], *, more: bool) -> None:
        """Pass on the deliveries of one read of the socket, and take the answer to a request from it."""
        if not self._receiving:
            return  # the broker keeps what is not acknowledged
        deliveries, answer = deliveries_from_packets(packets, self.ledger, self._counters)
        if answer is not None and self._pending_answer is not None and not self._pending_answer.done():
            self._pending_answer.set_result(answer)
        if deliveries:
            self.last_delivery_at = self._loop.time()
            self._arrivals += len(deliveries)
            self._inlet.receive(deliveries, more=more)

    def connection_lost(self, error: SensorsyncError | None) -> None:
        """Record the loss, so that `reconnect_forever` opens the connection again."""
        self._counters.links -= 1
        self.drained = False
        self._error = error
        if self._pending_answer is not None and not self._pending_answer.done():
            self._pending_answer.set_exception(error or BrokerUnavailable())
        self._lost_event.set()

    def writing_paused(self, paused: bool) -> None:
        """Hold nothing back, because PUBACKs are small and bounded by the window."""

    async def _subscribe(self) -> None:
        connection, registry, client_id = self._connection, self._registry, self.options.client_id
        if connection is None or connection.connack is None:
            raise BrokerUnavailable
        if self.session_expected and not connection.connack.session_present:
            self._counters.sessions_lost += 1
            logger.warning(
                "link %d: the broker no longer has the session %s: messages that were queued in it may be lost. %s",
                self.number,
                client_id,
                SESSION_LOST_CAUSES,
                extra={"event": "session_lost", "link": self.number},
            )
        if not self._topic_filters:
            return
        known = registry.get(client_id) if registry else None
        before = known.topic_filters if known else ()
        if registry is not None:  # before SUBSCRIBE: a session that is not recorded would collect messages for ever
            added = [pattern for pattern in self._topic_filters if pattern not in before]
            registry.save({client_id: SessionRecord((*before, *added))})
        if stale := [pattern for pattern in before if pattern not in self._topic_filters]:
            await self._request(UnsubscribePacket(2, stale))
        filters = [
            TopicFilter(p, max_qos=QoS.AT_LEAST_ONCE, retain_handling=RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS)
            for p in self._topic_filters
        ]
        answer = await self._request(SubscribePacket(1, filters))
        if isinstance(answer, SubAckPacket):
            where = self.options.address
            if len(answer.reason_codes) != len(filters):  # [MQTT-3.9.3-1]
                raise self._abort_with(BrokerUnavailable(f"broker {where} sent a SUBACK that fits no SUBSCRIBE"))
            for pattern, code in zip(self._topic_filters, answer.reason_codes, strict=True):
                if int(code) >= 0x80:
                    raise self._abort_with(suback_error(self.options, pattern, code))
                if int(code) < 1:
                    hint = "messages would be lost: allow QoS 1 in the broker"
                    raise self._abort_with(BrokerRefused(f"broker {where} grants {pattern!r} only QoS 0", hint=hint))
        if registry is not None:
            registry.save({client_id: SessionRecord(self._topic_filters)})
            self.session_expected = True

    def _abort_with(self, error: BrokerError) -> BrokerError:
        if self._connection is not None:
            self._connection.abort(error)
        return error

    async def _request(self, packet: SubscribePacket | UnsubscribePacket) -> SubAckPacket | UnsubAckPacket:
        """Send a request and wait for its answer, up to the connect time-out. Raises BrokerError."""
        connection = self._connection
        if connection is None or not connection.alive:
            raise self._error or BrokerUnavailable()
        connection.resume_reading()  # even under back-pressure the answer has to be read
        self._pending_answer = self._loop.create_future()
        connection.send([packet])
        try:
            async with asyncio.timeout(self.options.connect_timeout):
                answer = await self._pending_answer
        except TimeoutError as error:
            name = type(packet).__name__.removesuffix("Packet").upper()
            raise self._abort_with(BrokerUnavailable(f"broker {self.options.address} did not answer {name}")) from error
        finally:
            self._pending_answer = None
            if self._paused:
                connection.pause_reading()
        if not isinstance(answer, SubAckPacket | UnsubAckPacket):
            raise self._abort_with(
                BrokerUnavailable(f"broker {self.options.address} answered with {type(answer).__name__}")
            )
        return answer
