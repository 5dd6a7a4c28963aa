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
from sensorsync.mqtt.client.base import Conversation
from sensorsync.mqtt.client.broken_packets import Received
from sensorsync.mqtt.client.errors import BrokerRefused, BrokerUnavailable, suback_error
from sensorsync.mqtt.client.open import connect
from sensorsync.mqtt.client.options import ConnectOptions, connect_options
from sensorsync.mqtt.subscriber.intake import take_in
from sensorsync.pipeline.contract import Delivery
from sensorsync.pipeline.counters import Meter
from sensorsync.pipeline.ledger import AckLedger

_FAILURE = 0x80
"""Reason codes from here on are failures."""


@asynccontextmanager
async def listening(settings: Settings, patterns: Sequence[str], limit: int) -> AsyncIterator[Listener]:
    """A listener to these topic filters, connected and subscribed, that takes `limit` messages at most. Raises BrokerError."""
    name = f"{settings.mqtt.client_id}-map-{secrets.token_hex(4)}"
    options = replace(connect_options(settings, name), clean_start=True, session_expiry=0)
    listener = Listener(options, limit)
    connection = await connect(options, listener)
    try:
        await listener.subscribe(patterns)
        yield listener
    finally:
        await connection.close(end_session=True)


class Listener:
    """The Handler of the connection, and what it heard. Use `listening`."""

    def __init__(self, options: ConnectOptions, limit: int) -> None:
        self._options = options
        self._room = limit
        self._heard: asyncio.Queue[Delivery | SensorsyncError] = asyncio.Queue()
        self._connection: Conversation | None = None
        self._answer: asyncio.Future[SubAckPacket] = asyncio.get_running_loop().create_future()
        self._nothing_owed = AckLedger(0), Meter(0.0)

    async def next(self) -> Delivery:
        """The next message, once it is there. Raises BrokerError when the connection is lost."""
        heard = await self._heard.get()
        if isinstance(heard, SensorsyncError):
            raise heard
        return heard

    async def subscribe(self, patterns: Sequence[str]) -> None:
        """SUBSCRIBE, and what the broker says to it. Retained messages are not asked for: `subscribe` gets none either.

        Raises BrokerError.
        """
        filters = [
            TopicFilter(one, max_qos=QoS.AT_MOST_ONCE, retain_handling=RetainHandling.SEND_NEVER) for one in patterns
        ]
        if self._connection is not None:
            self._connection.send([SubscribePacket(1, filters)])
        where = self._options.where
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                answer = await self._answer
        except TimeoutError as error:
            raise BrokerUnavailable(f"broker {where} did not answer SUBSCRIBE") from error
        if len(answer.reason_codes) != len(filters):  # [MQTT-3.9.3-1]
            raise BrokerRefused(f"broker {where} sent a SUBACK that fits no SUBSCRIBE")
        for pattern, code in zip(patterns, answer.reason_codes, strict=True):
            if int(code) >= _FAILURE:
                raise suback_error(self._options, pattern, code)

    # -- Handler -------------------------------------------------------------------------------------------------------

    def connection_ready(self, connection: Conversation) -> None:
        """See Handler."""
        self._connection = connection

    def packets_received(self, packets: Sequence[Received], *, more: bool) -> None:  # noqa: ARG002 - the protocol's
        """See Handler."""
        deliveries, answer = take_in(packets, *self._nothing_owed)
        if isinstance(answer, SubAckPacket) and not self._answer.done():
            self._answer.set_result(answer)
        live = [one for one in deliveries if not (one.properties or {}).get("retain")]  # MQTT 3.1.1 sends those, too
        for delivery in live[: self._room]:
            self._heard.put_nowait(delivery)
        self._room -= min(self._room, len(live))
        if not self._room and self._connection is not None:
            self._connection.pause_reading()

    def connection_lost(self, error: SensorsyncError | None) -> None:
        """See Handler."""
        error = error or BrokerUnavailable("the connection is closed")
        if not self._answer.done():
            self._answer.set_exception(error)
        self._heard.put_nowait(error)

    def writing_paused(self, paused: bool) -> None:
        """See Handler; what a listener sends is little."""
