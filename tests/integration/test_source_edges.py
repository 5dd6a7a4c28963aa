"""Edges of the source: packet ids that come back, packets that are none, bugs of our own."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path

import mqtt5
import pytest

from sensorsync.pipeline.contract import AckToken, Delivery
from tests.fakes.broker import FakeBroker
from tests.fakes.connection import ServerConnection
from tests.fakes.session import Message
from tests.pipelines import CLIENT, everything, kept, running, send, subscribed


class Bug(Exception):
    """Something that nobody foresees."""


def test_a_dup_under_an_acknowledged_id_that_is_another_message_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMQX keeps DUP on a message of the group that goes to another member, under that member's next packet id."""
    plain = Message.packet

    def redispatched(self: Message, packet_id: int | None, *, dup: bool = False) -> bytes:
        return plain(self, packet_id, dup=dup or self.payload.startswith(b"other"))

    async def scenario() -> None:
        async with FakeBroker(window=4) as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            await send(broker, 4)
            await broker.wait_for(lambda b: b.puback_ids() == [1, 2, 3, 4])

            monkeypatch.setattr(Message, "packet", redispatched)
            broker.next_packet_id(CLIENT, 1)
            await send(broker, 4, b"other%d")
            await send(broker, 4, b"next%d")
            await broker.wait_for(lambda b: len(b.puback_ids()) == 12)
            assert everything(4, b"other%d") | everything(4, b"next%d") <= set(pipeline.database.rows)

    asyncio.run(scenario())


POISON = {
    "topic that is not UTF-8": (b"t/poison", b"t/\xffoison"),
    "topic with a wildcard": (b"t/poison", b"t/#/ison"),
    "property that is not UTF-8": (b"value", b"\xffalue"),
}


# The codec panics on it, and says so to Python's unraisable hook, too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("place", [place for place in POISON if "wildcard" not in place])  # our codec takes those
def test_a_broken_message_does_not_come_back_with_every_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    plain = Message.packet

    def poisoned(self: Message, packet_id: int | None, *, dup: bool = False) -> bytes:
        if self.topic != "t/poison":
            return plain(self, packet_id, dup=dup)
        user = [("name", "value")]
        packet = mqtt5.PublishPacket(
            self.topic, self.payload, qos=mqtt5.QoS(1), packet_id=packet_id, duplicate=dup, user_properties=user
        )
        return packet.write().replace(*POISON[place])

    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            monkeypatch.setattr(Message, "packet", poisoned)
            pipeline.database.gate.clear()
            pipeline.box.available = False
            await broker.publish("t/poison", b"poison")
            await send(broker, 10)
            await pipeline.until(lambda: pipeline.meter.received == 11)
            broker.drop_connection()
            await pipeline.until(lambda: pipeline.meter.received == 22)
            pipeline.database.gate.set()
            pipeline.box.available = True

            await broker.wait_for(lambda b: not kept(b))
            assert set(pipeline.database.rows) == everything(10)
            assert {letter.payload for letter in pipeline.box.letters} == {b"poison"}
            await pipeline.until(
                lambda: pipeline.meter.reconnects > 0
            )  # counted at the SUBACK, which comes after the messages
            assert pipeline.meter.reconnects == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("huge", [False, True], ids=["small", "more than 2 MiB"])
def test_a_topic_alias_that_we_did_not_allow_is_refused_and_never_stored_or_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, huge: bool
) -> None:
    # The message with the empty topic was stored, by whatever mapping takes an empty topic, and acknowledged.
    plain, payload = Message.packet, b"-" * 2_200_000 if huge else b"of whom?"

    def aliased(self: Message, packet_id: int | None, *, dup: bool = False) -> bytes:
        if self.payload != payload:
            return plain(self, packet_id, dup=dup)
        return mqtt5.PublishPacket(
            "", self.payload, qos=mqtt5.QoS(1), packet_id=packet_id, duplicate=dup, topic_alias=1
        ).write()

    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            with monkeypatch.context() as patch:
                patch.setattr(Message, "packet", aliased)
                await broker.publish("t/first", b"first")
                await broker.publish("t/secret", payload)
                await broker.wait_for(lambda b: len(b.packets(mqtt5.DisconnectPacket)) >= 3)
                assert {int(one.reason_code) for one in broker.packets(mqtt5.DisconnectPacket)} == {0x94}
                assert payload in kept(broker)
            await broker.wait_for(lambda b: not kept(b))
            if not huge:
                assert set(pipeline.database.rows) == {b"first", payload}
                assert not pipeline.box.letters
            assert {letter.topic for letter in pipeline.box.letters} <= {"t/secret"}

    asyncio.run(scenario())


def test_a_broker_that_repeats_its_topic_alias_is_called_less_and_less_often(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nameless = mqtt5.PublishPacket("", b"x", qos=mqtt5.QoS(1), packet_id=9, topic_alias=1).write()

    class Aliasing(FakeBroker):
        def _on_subscribe(self, connection: ServerConnection, packet: mqtt5.SubscribePacket) -> None:
            super()._on_subscribe(connection, packet)
            connection.write(nameless)

    async def scenario() -> None:
        async with (
            Aliasing() as broker,
            running(broker.port, tmp_path, connections=1, backoff_min=0.01, backoff_max=60) as pipeline,
        ):
            await broker.wait_for(lambda b: len(b.packets(mqtt5.DisconnectPacket)) >= 6)
            assert broker.puback_ids() == []
            assert not pipeline.database.rows

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert "a topic alias, although we state no Topic Alias Maximum" in caplog.text
    delays = [record.args[2] for record in caplog.records if getattr(record, "event", "") == "link_lost"]  # type: ignore[index]
    assert max(delays) >= 0.01 * 2**4 / 2, "each delay is at least half of twice the one before"  # type: ignore[type-var, operator]


def test_a_bug_while_settling_ends_the_process_and_acknowledges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            with monkeypatch.context() as patch:

                def settle_badly_once(_: Sequence[AckToken]) -> None:
                    patch.undo()
                    raise Bug

                patch.setattr(pipeline.source, "settle", settle_badly_once)
                await send(broker, 5)
                with pytest.raises(Bug):
                    await asyncio.wait_for(asyncio.shield(pipeline.task), 5)
            assert broker.puback_ids() == []
            assert kept(broker) == everything(5)

    asyncio.run(scenario())


def test_a_bug_while_receiving_ends_the_process_and_acknowledges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def receive(_: Sequence[Delivery], *, more: bool) -> None:
        raise Bug

    async def scenario() -> None:
        async with (
            FakeBroker() as broker,
            running(broker.port, tmp_path, connections=1, backoff_min=60, backoff_max=60) as pipeline,
        ):
            await subscribed(broker, pipeline)
            monkeypatch.setattr(pipeline.source._inlet, "receive", receive)
            await send(broker, 5)
            with pytest.raises(Bug):
                await asyncio.wait_for(asyncio.shield(pipeline.task), 5)
            assert broker.puback_ids() == []
            assert kept(broker) == everything(5)

    asyncio.run(scenario())


def test_a_message_that_one_link_forgot_is_fetched_again_while_another_link_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with (
            FakeBroker(window=5, queue_limit=None) as broker,
            running(broker.port, tmp_path, connections=2, ack_timeout=0.2) as pipeline,
        ):
            await subscribed(broker, pipeline, links=2)
            with monkeypatch.context() as patch:
                patch.setattr(pipeline.source._links[0], "settle", lambda tokens: 0)
                await send(broker, 10)
                await pipeline.until(lambda: pipeline.meter.settled == 10)
            sent = itertools.count()
            while not pipeline.meter.reconnects:
                busy_until = pipeline.meter.settled + 1
                for _ in range(2):  # one for each link, of which only the other one takes it
                    await broker.publish("t/x", b"more%d" % next(sent))
                await pipeline.until(lambda until=busy_until: pipeline.meter.settled >= until)  # type: ignore[misc]
            await broker.wait_for(lambda b: not kept(b))

    asyncio.run(scenario())
