"""Huge messages, and a broker that does not keep to MQTT: what can be settled is, memory stays bounded, nothing is a crash."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import mqtt5
import pytest

from sensorsync.mqtt.client.broken_packets import MAX_PACKET
from tests.bad_input import GOOD_READING
from tests.fakes.broker import FakeBroker
from tests.pipelines import CLIENT, running, subscribed

pytestmark = pytest.mark.timeout(180)
HUGE = GOOD_READING + b" " * (3 * MAX_PACKET)
"""A reading, were it not for its size."""


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_a_huge_message_is_acknowledged_only_once_its_letter_is_in_the_box_and_does_not_come_back(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            pipeline.box.available = False
            await broker.publish("t/huge", HUGE)
            await broker.publish("t/x", b"after")
            await pipeline.until(lambda: pipeline.meter.received == 2)
            assert broker.puback_ids() == []

            pipeline.box.available = True
            await broker.wait_for(lambda b: len(b.puback_ids()) == 2)

            (letter,) = pipeline.box.letters
            assert (letter.reason, letter.topic) == ("mqtt", "t/huge")
            assert HUGE.startswith(letter.payload)
            assert MAX_PACKET - 100 < len(letter.payload) <= MAX_PACKET
            assert hashlib.sha256(HUGE).hexdigest() in letter.message
            assert pipeline.database.rows == [b"after"]
            assert pipeline.meter.reconnects == 0
            assert broker.puback_ids() == [1, 2]

    run(scenario())


def test_a_huge_message_that_was_cut_off_is_not_taken_for_one_and_comes_again_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            packet = mqtt5.PublishPacket("t/huge", HUGE, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=9).write()
            broker.inject(CLIENT, packet[: len(packet) - 1])
            (link,) = pipeline.source._links
            await pipeline.until(
                lambda: getattr(getattr(link.connection, "_huge_publish", None), "bytes_missing", 0) == 1
            )
            broker.drop_connection(CLIENT)
            await pipeline.until(lambda: pipeline.meter.reconnects == 1)
            assert pipeline.meter.received == 0

            broker.inject(CLIENT, packet)
            await broker.wait_for(lambda b: b.puback_ids() == [9])
            assert len(pipeline.box.letters) == 1

    run(scenario())


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (b"\x32\xff\xff\xff\xff\x01", "not MQTT 5"),
        (b"\x32\x07\xff\xff\x74\x00\x07\x00x", "not MQTT 5"),
        (b"\x90\xff\xff\xff\x7f", "268435460 bytes that is no message"),
    ],
    ids=["remaining length of five bytes", "topic longer than the packet", "a SUBACK of 256 MiB"],
)
def test_a_lie_about_lengths_costs_the_connection_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lie: bytes, words: str
) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            broker.inject(CLIENT, lie)
            await pipeline.until(lambda: pipeline.meter.reconnects == 1)
            await broker.publish("t/x", b"after")
            await pipeline.until(lambda: pipeline.database.rows == [b"after"])

    run(scenario())
    assert words in caplog.text


@pytest.mark.parametrize("codes", [0, 2], ids=["no code", "two codes"])
def test_a_suback_that_does_not_fit_is_no_crash_but_a_reconnect(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codes: int
) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            granted = mqtt5.SubAckReasonCode(1)
            broker.withhold_suback = True
            broker.drop_connection(CLIENT)
            await broker.wait_for(lambda b: len(b.packets(mqtt5.SubscribePacket)) == 2)
            broker.inject(CLIENT, mqtt5.SubAckPacket(1, [granted] * codes).write())
            broker.withhold_suback = False
            await broker.wait_for(lambda b: len(b.packets(mqtt5.SubscribePacket)) == 3)
            await broker.publish("t/x", b"after")
            await pipeline.until(lambda: pipeline.database.rows == [b"after"])

    run(scenario())
    assert "fits no SUBSCRIBE" in caplog.text


def test_packets_that_nobody_asked_for_change_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            for packet in (
                mqtt5.ConnAckPacket(),
                mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED]),
                mqtt5.UnsubAckPacket(2, [mqtt5.UnsubAckReasonCode.SUCCESS]),
                mqtt5.PubAckPacket(0),
                mqtt5.PubAckPacket(7),
                mqtt5.PingRespPacket(),
                mqtt5.PublishPacket("t/qos2", b"qos 2", qos=mqtt5.QoS.EXACTLY_ONCE, packet_id=5),
            ):
                broker.inject(CLIENT, packet.write())
            broker.inject(CLIENT, b"\x32\x09\x00\x01t\x00\x00\x00id0")  # a packet id of 0
            await broker.publish("t/x", b"after")
            await pipeline.until(lambda: set(pipeline.database.rows) == {b"qos 2", b"id0", b"after"})
            assert pipeline.meter.reconnects == 0

    run(scenario())
