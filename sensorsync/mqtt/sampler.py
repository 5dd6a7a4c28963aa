"""Listening in: some messages of a broker, by a client of its own that takes nothing away from anybody.

Its client id is random, its session clean and gone with it, its subscription plain and not shared: the broker gives it copies. With
QoS 0 there is nothing to acknowledge, and nothing waits for it in the broker.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from mqtt5 import QoS, RetainHandling, SubAckPacket, SubscribePacket, TopicFilter

from sensorsync.config import Settings
from sensorsync.errors import SensorsyncError
from sensorsync.mqtt.client.base import BrokerConnection
from sensorsync.mqtt.client.broken_packets import ReceivedPacket
from sensorsync.mqtt.client.errors import BrokerRefused, BrokerUnavailable, suback_error
from sensorsync.mqtt.client.open import open_connection
from sensorsync.mqtt.client.options import ConnectOptions, connect_options
from sensorsync.mqtt.subscriber.deliveries import deliveries_from_packets
from sensorsync.pipeline.contract import Delivery
from sensorsync.pipeline.counters import PipelineCounters
from sensorsync.pipeline.ledger import AckLedger

_FIRST_FAILURE_CODE = 0x80
"""Reason codes from here on are failures."""


@asynccontextmanager
async def sample_messages(
    settings: Settings, topic_filters: Sequence[str], limit: int
) -> AsyncIterator[MessageSampler]:
    """A listener to these topic filters, connected and subscribed, that takes `limit` messages at most. Raises BrokerError."""
    name = f"{settings.mqtt.client_id}-map-{secrets.token_hex(4)}"
    options = replace(connect_options(settings, name), clean_start=True, session_expiry=0)
    listener = MessageSampler(options, limit)
    connection = await open_connection(options, listener)
    try:
        await listener.subscribe(topic_filters)
        yield listener
    finally:
        await connection.close(end_session=True)


class MessageSampler:
    """The Handler of the connection, and what it heard. Use `listening`."""

    def __init__(self, options: ConnectOptions, limit: int) -> None:
        self._options = options
        self._remaining = limit
        self._samples: asyncio.Queue[Delivery | SensorsyncError] = asyncio.Queue()
        self._connection: BrokerConnection | None = None
        self._suback: asyncio.Future[SubAckPacket] = asyncio.get_running_loop().create_future()
        self._unused_accounting = AckLedger(0), PipelineCounters(0.0)

    async def next(self) -> Delivery:
        """The next message, once it is there. Raises BrokerError when the connection is lost."""
        heard = await self._samples.get()
        if isinstance(heard, SensorsyncError):
            raise heard
        return heard

    async def subscribe(self, topic_filters: Sequence[str]) -> None:
        """SUBSCRIBE, and what the broker says to it. Retained messages are not asked for: `subscribe` gets none either.

        Raises BrokerError.
        """
        filters = [
            TopicFilter(one, max_qos=QoS.AT_MOST_ONCE, retain_handling=RetainHandling.SEND_NEVER)
            for one in topic_filters
        ]
        if self._connection is not None:
            self._connection.send([SubscribePacket(1, filters)])
        where = self._options.address
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                answer = await self._suback
        except TimeoutError as error:
            raise BrokerUnavailable(f"broker {where} did not answer SUBSCRIBE") from error
        if len(answer.reason_codes) != len(filters):  # [MQTT-3.9.3-1]
            raise BrokerRefused(f"broker {where} sent a SUBACK that fits no SUBSCRIBE")
        for pattern, code in zip(topic_filters, answer.reason_codes, strict=True):
            if int(code) >= _FIRST_FAILURE_CODE:
                raise suback_error(self._options, pattern, code)

    # -- Handler -------------------------------------------------------------------------------------------------------

    def connection_ready(self, connection: BrokerConnection) -> None:
        """See Handler."""
        self._connection = connection

    def packets_received(self, packets: Sequence[ReceivedPacket], *, more: bool) -> None:  # noqa: ARG002 - the protocol's
        """See Handler."""
        deliveries, answer = deliveries_from_packets(packets, *self._unused_accounting)
        if isinstance(answer, SubAckPacket) and not self._suback.done():
            self._suback.set_result(answer)
        live = [one for one in deliveries if not (one.properties or {}).get("retain")]  # MQTT 3.1.1 sends those, too
        for delivery in live[: self._remaining]:
            self._samples.put_nowait(delivery)
        self._remaining -= min(self._remaining, len(live))
        if not self._remaining and self._connection is not None:
            self._connection.pause_reading()

    def connection_lost(self, error: SensorsyncError | None) -> None:
        """See Handler."""
        error = error or BrokerUnavailable("the connection is closed")
        if not self._suback.done():
            self._suback.set_exception(error)
        self._samples.put_nowait(error)

    def writing_paused(self, paused: bool) -> None:
        """See Handler; what a listener sends is little."""
