"""The publishing clients against a scripted broker: windows, resends, probes, refusals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from itertools import repeat
from typing import Any

import mqtt5
import pytest
from mqtt5 import ConnAckReasonCode, DisconnectReasonCode, PubAckReasonCode, PublishPacket

from sensorsync.loadtest import GeneratedMessages, Run, Schedule
from sensorsync.messages.envelope import EnvelopeDecoder, Key, Signer
from sensorsync.mqtt.client.errors import BrokerRefused, BrokerUnavailable
from sensorsync.mqtt.client.options import ConnectOptions
from sensorsync.mqtt.publisher.publisher import Publisher
from sensorsync.runtime.backoff import Backoff
from tests.fakes import FakeBroker

TOPIC = "sensors/live/load"
RUN = "r20261124-2015-ab12"


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def publisher(
    broker: FakeBroker, messages: int, clients: int = 1, pace: Schedule | None = None, **more: Any
) -> Publisher:
    load = Run(RUN, messages, clients)
    options = [
        ConnectOptions("127.0.0.1", broker.port, load.client_name(client), clean_start=True)
        for client in range(clients)
    ]
    more = {"window": 1000, "backoff": lambda: Backoff(0.01, 0.05), **more}
    return Publisher(
        [(one, repeat(TOPIC), GeneratedMessages(load, number, pace)) for number, one in enumerate(options)], **more
    )


def everybody_gets_it(_: PublishPacket) -> PubAckReasonCode:
    return PubAckReasonCode.SUCCESS


def payloads(broker: FakeBroker) -> list[bytes]:
    return [bytes(packet.payload) for packet in broker.packets(PublishPacket)]


def test_all_messages_of_all_clients_are_sent_once_and_acknowledged() -> None:
    async def scenario() -> None:
        async with FakeBroker(puback_code=everybody_gets_it) as broker, publisher(broker, 1001, 4) as made:
            await made.connect()
            await made.publish()
            assert (made.stats.sent, made.stats.acked, made.error) == (1001, 1001, None)
            assert len(set(payloads(broker))) == len(payloads(broker)) == 1001
            assert {packet.topic for packet in broker.packets(PublishPacket)} == {TOPIC}
            assert made.stats.latency.count == 1001
        assert [type(entry.packet) for entry in broker.seen].count(mqtt5.DisconnectPacket) == 4

    run(scenario())


@pytest.mark.parametrize(("stated", "configured", "expected"), [(32, 1000, 32), (65535, 7, 7)])
def test_the_window_is_the_smaller_one_of_ours_and_of_the_brokers(stated: int, configured: int, expected: int) -> None:
    async def scenario() -> None:
        async with (
            FakeBroker(receive_max=stated, withhold_publisher_acks=True, puback_code=everybody_gets_it) as broker,
            publisher(broker, 200, window=configured) as made,
        ):
            await made.connect()
            publishing = asyncio.create_task(made.publish())
            await broker.wait_for(lambda b: len(payloads(b)) == expected)
            await asyncio.sleep(0.05)  # more would come now
            assert len(payloads(broker)) == expected
            broker.release_publisher_acks()  # from here on the fake disconnects whoever oversteps
            await publishing
            assert (made.stats.acked, made.stats.reconnects) == (200, 0)

    run(scenario())


def test_without_a_subscriber_messages_are_counted_apart() -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, publisher(broker, 50) as made:
            await made.connect()
            await made.publish()
            assert (made.stats.acked, made.stats.no_subscriber) == (0, 50)

    run(scenario())


@pytest.mark.parametrize("session_present", [True, False])
def test_after_a_lost_connection_all_that_is_unacknowledged_is_sent_again_with_dup(session_present: bool) -> None:
    async def scenario() -> None:
        broker = FakeBroker(
            withhold_publisher_acks=True, puback_code=everybody_gets_it, receive_max=20, session_present=session_present
        )
        async with broker, publisher(broker, 100) as made:
            await made.connect()
            publishing = asyncio.create_task(made.publish())
            await broker.wait_for(lambda b: len(payloads(b)) == 20)
            first = payloads(broker)
            broker.drop_connection()
            await broker.wait_for(lambda b: len(payloads(b)) == 40)
            again = broker.packets(PublishPacket)[20:]
            assert [bytes(packet.payload) for packet in again] == first
            assert all(packet.duplicate for packet in again)

            broker.release_publisher_acks()
            await publishing
            stats = made.stats
            assert (stats.sent, stats.acked, stats.retransmitted, stats.reconnects) == (100, 100, 20, 1)
            assert len(set(payloads(broker))) == 100

    run(scenario())


def test_a_broker_that_is_away_for_a_while_gets_everything_in_the_end() -> None:
    async def scenario() -> None:
        broker = FakeBroker(puback_code=everybody_gets_it, receive_max=10)
        async with broker, publisher(broker, 3000, 3) as made:
            await made.connect()
            publishing = asyncio.create_task(made.publish())
            await broker.wait_for(lambda b: len(payloads(b)) > 300)
            await broker.stop()
            await asyncio.sleep(0.1)
            await broker.start()
            await publishing
            assert (made.stats.acked, made.error) == (3000, None)
            assert made.stats.reconnects >= 3

    run(scenario())


def test_waiting_for_a_subscriber_sends_the_first_message_and_it_is_stored_once() -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, publisher(broker, 10) as made:
            await made.connect()
            probing = asyncio.create_task(made.wait_for_subscriber())
            await broker.wait_for(lambda b: len(payloads(b)) >= 2)
            assert len(set(payloads(broker))) == 1
            assert not any(packet.duplicate for packet in broker.packets(PublishPacket))
            assert not probing.done()
            broker.puback_code = everybody_gets_it
            await asyncio.wait_for(probing, 5)
            await made.publish()
            assert (made.stats.sent, made.stats.acked, made.stats.no_subscriber) == (10, 10, 0)
            assert len(set(payloads(broker))) == 10

    run(scenario())


def test_messages_are_signed() -> None:
    async def scenario() -> None:
        key = Key("k", b"x" * 32)
        async with (
            FakeBroker(puback_code=everybody_gets_it) as broker,
            publisher(broker, 3, message_encoder=Signer(key).sign) as made,
        ):
            await made.connect()
            await made.publish()
            envelope = EnvelopeDecoder([key], signatures="required")
            opened = [envelope.verify_and_decrypt(payload) for payload in payloads(broker)]
            assert all(isinstance(plain, bytes) and plain.startswith(b'{"event_id"') for plain in opened)

    run(scenario())


def test_a_refused_connection_is_an_error_at_the_start() -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, publisher(broker, 3, 2) as made:
            broker.connack_codes.append(ConnAckReasonCode.NOT_AUTHORIZED)
            with pytest.raises(BrokerRefused):
                await made.connect()

    run(scenario())


def test_a_refusal_in_the_middle_ends_the_work_and_is_reported() -> None:
    async def scenario() -> None:
        async with FakeBroker(withhold_publisher_acks=True) as broker, publisher(broker, 3) as made:
            await made.connect()
            publishing = asyncio.create_task(made.publish())
            await broker.wait_for(lambda b: len(payloads(b)) == 3)
            broker.disconnect(RUN + "-00000", DisconnectReasonCode.NOT_AUTHORIZED)
            await asyncio.wait_for(publishing, 5)
            assert isinstance(made.error, BrokerRefused)
            assert made.stats.answered == 0

    run(scenario())


def test_a_refusal_while_waiting_for_a_subscriber_ends_it() -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, publisher(broker, 3) as made:
            await made.connect()
            probing = asyncio.create_task(made.wait_for_subscriber())
            await broker.wait_for(payloads)
            broker.disconnect(RUN + "-00000", DisconnectReasonCode.NOT_AUTHORIZED)
            await asyncio.wait_for(probing, 5)
            await asyncio.wait_for(made.publish(), 5)
            assert isinstance(made.error, BrokerRefused)

    run(scenario())


def test_a_broker_that_answers_nothing_is_given_up_in_the_end() -> None:
    async def scenario() -> None:
        async with FakeBroker(withhold_publisher_acks=True) as broker, publisher(broker, 3, answer_timeout=0.3) as made:
            await made.connect()
            await asyncio.wait_for(made.publish(), 5)
            assert isinstance(made.error, BrokerUnavailable)
            assert made.stats.sent == 3

    run(scenario())


def test_a_stop_sends_nothing_new_and_takes_the_answers_to_what_is_under_way() -> None:
    async def scenario() -> None:
        broker = FakeBroker(withhold_publisher_acks=True, puback_code=everybody_gets_it, receive_max=10)
        async with broker, publisher(broker, 100_000) as made:
            await made.connect()
            publishing = asyncio.create_task(made.publish())
            await broker.wait_for(lambda b: len(payloads(b)) == 10)
            made.stop()
            broker.release_publisher_acks()
            await asyncio.wait_for(publishing, 5)
            assert (made.stats.sent, made.stats.acked, made.error) == (10, 10, None)

    run(scenario())


def test_in_an_open_loop_messages_are_sent_when_they_are_due_and_a_backlog_counts_from_then() -> None:
    async def scenario() -> None:
        pace = Schedule(4, 400.0)
        broker = FakeBroker(withhold_publisher_acks=True, puback_code=everybody_gets_it, receive_max=5)
        async with broker, publisher(broker, 120, 4, pace) as made:
            await made.connect()
            pace.start = time.time() + 0.05
            publishing = asyncio.create_task(made.publish())
            await broker.wait_for(lambda b: len(payloads(b)) == 20)
            assert time.time() >= pace.start + 19 / 400
            await asyncio.sleep(pace.start + 120 / 400 - time.time())  # all are due, and the windows are full
            assert made.stats.sent == 20
            broker.release_publisher_acks()
            await publishing
            stats = made.stats
            assert (stats.sent, stats.acked, stats.latency.count) == (120, 120, 120)
            # What waited for the window was due up to 0.25 s before: the closed loop's latency would be some milliseconds.
            assert stats.latency.percentile(50) > 50_000
            assert stats.latency.maximum >= 295_000

    run(scenario())


def test_a_client_that_ends_does_not_check_all_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: 2,000 clients that ended one after another stood still for more than a second."""
    looks = 0

    class Watched(GeneratedMessages):
        @property
        def exhausted(self) -> bool:
            nonlocal looks
            looks += 1
            return super().exhausted

    async def scenario() -> None:
        monkeypatch.setattr("tests.unit.mqtt.publisher.test_publisher.GeneratedMessages", Watched)
        async with FakeBroker(puback_code=everybody_gets_it) as broker, publisher(broker, 600, 300) as made:
            await made.connect()
            await made.publish()
            assert made.stats.acked == 600
            assert looks < 20 * 300

    run(scenario())
