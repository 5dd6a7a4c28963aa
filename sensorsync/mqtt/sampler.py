"""Sampling of a broker's messages by a separate client that takes no message away from a subscriber.

Its client id is random. Its session is clean and ends with the connection. Its subscription is plain and not shared, so the
broker sends it copies. With QoS 0 there is nothing to acknowledge, and the broker queues nothing for it.
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
"""Lowest reason code that is a failure."""


@asynccontextmanager
async def sample_messages(
    settings: Settings, topic_filters: Sequence[str], limit: int
) -> AsyncIterator[MessageSampler]:
    """Connect and subscribe a sampler of these topic filters that takes at most `limit` messages.

    Raises BrokerError.
    """
    name = f"{settings.mqtt.client_id}-map-{secrets.token_hex(4)}"
    options = replace(connect_options(settings, name), clean_start=True, session_expiry=0)
    sampler = MessageSampler(options, limit)
    connection = await open_connection(options, sampler)
    try:
        await sampler.subscribe(topic_filters)
        yield sampler
    finally:
        await connection.close(end_session=True)


class MessageSampler:
    """The ConnectionHandler that collects the messages of a sample. Create it with `sample_messages`."""

    def __init__(self, options: ConnectOptions, limit: int) -> None:
        self._options = options
        self._remaining = limit
        self._samples: asyncio.Queue[Delivery | SensorsyncError] = asyncio.Queue()
        self._connection: BrokerConnection | None = None
        self._suback: asyncio.Future[SubAckPacket] = asyncio.get_running_loop().create_future()
        self._unused_accounting = AckLedger(0), PipelineCounters(0.0)

    async def next(self) -> Delivery:
        """Return the next message as soon as it has arrived. Raises BrokerError when the connection is lost."""
        sample = await self._samples.get()
        if isinstance(sample, SensorsyncError):
            raise sample
        return sample

    async def subscribe(self, topic_filters: Sequence[str]) -> None:
        """Send SUBSCRIBE, and check the broker's answer.

        Retained messages are not requested, because `subscribe` does not get any either. Raises BrokerError.
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

    # -- ConnectionHandler ---------------------------------------------------------------------------------------------

    def connection_ready(self, connection: BrokerConnection) -> None:
        """See ConnectionHandler."""
        self._connection = connection

    def packets_received(self, packets: Sequence[ReceivedPacket], *, more: bool) -> None:  # noqa: ARG002 - the protocol's
        """See ConnectionHandler."""
        deliveries, answer = deliveries_from_packets(packets, *self._unused_accounting)
        if isinstance(answer, SubAckPacket) and not self._suback.done():
            self._suback.set_result(answer)
        live = [one for one in deliveries if not (one.properties or {}).get("retain")]  # MQTT 3.1.1 brokers send them
        for delivery in live[: self._remaining]:
            self._samples.put_nowait(delivery)
        self._remaining -= min(self._remaining, len(live))
        if not self._remaining and self._connection is not None:
            self._connection.pause_reading()

    def connection_lost(self, error: SensorsyncError | None) -> None:
        """See ConnectionHandler."""
        error = error or BrokerUnavailable("the connection is closed")
        if not self._suback.done():
            self._suback.set_exception(error)
        self._samples.put_nowait(error)

    def writing_paused(self, paused: bool) -> None:
        """See ConnectionHandler. A sampler sends too little for a pause to matter."""
