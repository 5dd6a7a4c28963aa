"""Leaving for good (`on_stop: leave`): a session ends only once nothing is left in it. Else it is kept, and that is said."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import mqtt5
import pytest

from sensorsync.pipeline.contract import Reading, SinkMisconfigured, SinkUnavailable
from sensorsync.pipeline.ingest import IngestLimits
from tests.fakes.broker import FakeBroker
from tests.fakes.connection import ServerConnection
from tests.fakes.proxy import TcpProxy
from tests.pipelines import CLIENT, Database, Running, everything, kept, running, send, subscribed

BUSY = mqtt5.ConnAckReasonCode.SERVER_BUSY


def leaver(port: int, state: Path, **changes: Any) -> AbstractAsyncContextManager[Running]:
    """A pipeline that leaves for good when it stops."""
    limits = IngestLimits(end_sessions=True, stop_timeout=5.0)
    return running(port, state, **{"connections": 1, "on_stop": "leave", "limits": limits, **changes})


async def ended(pipeline: Running, broker: FakeBroker, within: float = 10.0) -> None:
    """Wait for the end, and until the broker has read all of it; raises what the pipeline ends with."""
    try:
        await asyncio.wait_for(asyncio.shield(pipeline.task), within)
    finally:
        await broker.wait_for(lambda b: not b.connected())


def no_table(_: Sequence[Reading]) -> None:
    raise SinkMisconfigured("no such table", errno=1146)


def test_when_the_table_is_gone_the_sessions_are_kept_with_all_that_is_in_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        database = Database()
        database.before_commit = no_table
        async with (
            FakeBroker(window=20, queue_limit=None) as broker,
            leaver(broker.port, tmp_path, database=database) as pipeline,
        ):
            await subscribed(broker, pipeline)
            await send(broker, 100)
            with pytest.raises(SinkMisconfigured):
                await ended(pipeline, broker)
            assert kept(broker) == everything(100)
            assert pipeline.source.sessions_not_ended == 1

    asyncio.run(scenario())


def test_a_writer_that_dies_while_the_sessions_are_drained_ends_the_process_and_keeps_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        database = Database()
        dropped = threading.Event()

        def wait_and_die(readings: Sequence[Reading]) -> None:
            dropped.wait(10)
            no_table(readings)

        database.before_commit = wait_and_die
        limits = IngestLimits(end_sessions=True, stop_timeout=60.0)
        async with (
            FakeBroker() as broker,
            leaver(broker.port, tmp_path, database=database, limits=limits) as pipeline,
        ):
            await subscribed(broker, pipeline)
            await send(broker, 5)
            await pipeline.until(lambda: pipeline.meter.received == 5)
            pipeline.stop.request("test")
            await broker.wait_for(lambda b: b.packets(mqtt5.UnsubscribePacket))
            dropped.set()

            with pytest.raises(SinkMisconfigured):
                await ended(pipeline, broker)
            assert kept(broker) == everything(5)

    asyncio.run(scenario())


def test_during_an_outage_ending_sessions_stops_at_the_deadline_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        database = Database()

        def away(_: Sequence[Reading]) -> None:
            raise SinkUnavailable("gone", errno=2003)

        database.before_commit = away
        limits = IngestLimits(end_sessions=True, stop_timeout=0.3)
        async with (
            FakeBroker() as broker,
            leaver(broker.port, tmp_path, database=database, limits=limits) as pipeline,
        ):
            await subscribed(broker, pipeline)
            await send(broker, 20)
            await pipeline.until(lambda: pipeline.meter.received == 20)
            pipeline.stop.request("test")
            await ended(pipeline, broker, within=5)
            assert kept(broker) == everything(20)
            assert pipeline.source.sessions_not_ended == 1

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert "the sessions could not be drained and were not ended" in caplog.text


def test_after_max_messages_a_session_with_messages_left_is_not_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        limits = IngestLimits(end_sessions=True, stop_timeout=0.3, max_messages=30)
        async with FakeBroker(window=100) as broker, leaver(broker.port, tmp_path, limits=limits) as pipeline:
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()  # until all 80 are in the session, which then is no member of the group any more
            await send(broker, 80)
            pipeline.database.gate.set()
            await ended(pipeline, broker)
            assert len(pipeline.database.rows) == 30
            assert kept(broker) == everything(80) - set(pipeline.database.rows)
            assert pipeline.source.sessions_not_ended == 1

    asyncio.run(scenario())


class FarAway(FakeBroker):
    """Its answer to SUBSCRIBE takes a while."""

    def _on_subscribe(self, connection: ServerConnection, packet: mqtt5.SubscribePacket) -> None:
        asyncio.get_running_loop().call_later(0.1, super()._on_subscribe, connection, packet)


@pytest.mark.parametrize("kind", [FakeBroker, FarAway])
def test_a_connection_lost_while_draining_is_made_again_and_drained_to_the_end(
    tmp_path: Path, kind: type[FakeBroker]
) -> None:
    # Far away, it was drained while it still subscribed: each took the other's answer, and the leaving stood still for ten seconds.
    async def scenario() -> None:
        away = {"backoff_min": 0.6, "backoff_max": 0.6}  # for longer than a session has to be silent
        async with kind(window=4, queue_limit=None) as broker, leaver(broker.port, tmp_path, **away) as pipeline:
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            await send(broker, 100)
            await pipeline.until(lambda: pipeline.meter.received == 4)
            pipeline.stop.request("test")
            await broker.wait_for(lambda b: b.packets(mqtt5.UnsubscribePacket))
            broker.drop_connection()
            await pipeline.until(lambda: pipeline.meter.reconnects == 1)
            pipeline.database.gate.set()
            await ended(pipeline, broker)

            assert set(pipeline.database.rows) == everything(100)
            assert not broker.sessions
            assert pipeline.source.sessions_not_ended == 0

    asyncio.run(scenario())


def test_draining_goes_on_under_back_pressure_and_takes_everything(tmp_path: Path) -> None:
    async def scenario() -> None:
        limits = IngestLimits(end_sessions=True, stop_timeout=5.0, queue_bytes=1000)
        async with (
            FakeBroker(window=10, queue_limit=None) as broker,
            leaver(broker.port, tmp_path, limits=limits, connect_timeout=5) as pipeline,
        ):
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            payload = b"%d" + b"-" * 500
            await send(broker, 100, payload)
            await pipeline.until(lambda: pipeline.source._paused)
            pipeline.stop.request("test")
            # UNSUBACK has to be read all the same; after it the socket is left alone again, and that is no silence of the broker's.
            await broker.wait_for(lambda b: b.packets(mqtt5.UnsubscribePacket))
            (only,) = pipeline.source._links
            await pipeline.until(lambda: only._pending_answer is None)
            assert only.connection is not None
            assert only.connection._reading_paused
            pipeline.database.gate.set()
            await ended(pipeline, broker)

            assert set(pipeline.database.rows) == everything(100, payload)
            assert not broker.sessions
            assert pipeline.meter.reconnects == 0

    asyncio.run(scenario())


def test_a_disconnected_link_reconnects_and_is_drained_before_its_session_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, leaver(broker.port, tmp_path, connections=2) as pipeline:
            await subscribed(broker, pipeline, links=2)
            broker.connack_codes.extend([BUSY] * 4)
            broker.drop_connection(CLIENT)
            await send(broker, 20)
            pipeline.stop.request("test")
            await ended(pipeline, broker)

            assert set(pipeline.database.rows) == everything(20)
            assert not broker.sessions

    asyncio.run(scenario())


def test_the_session_of_a_link_that_stays_down_is_not_ended_and_that_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        limits = IngestLimits(end_sessions=True, stop_timeout=0.5)
        away = {"backoff_min": 60, "backoff_max": 60}
        async with (
            FakeBroker() as broker,
            leaver(broker.port, tmp_path, connections=2, limits=limits, **away) as pipeline,
        ):
            await subscribed(broker, pipeline, links=2)
            broker.drop_connection(CLIENT)
            await send(broker, 20)
            pipeline.stop.request("test")
            await ended(pipeline, broker)

            assert list(broker.sessions) == [CLIENT]
            assert set(pipeline.database.rows) | kept(broker) == everything(20)
            assert pipeline.source.sessions_not_ended == 1

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert "the sessions could not be drained and were not ended" in caplog.text


def test_a_slow_network_is_not_taken_for_an_empty_session(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            FakeBroker(window=10, queue_limit=None) as broker,
            TcpProxy(broker.port) as proxy,
            leaver(proxy.port, tmp_path) as pipeline,
        ):
            await subscribed(broker, pipeline)
            proxy.delay_down = 0.3
            await send(broker, 30)
            pipeline.stop.request("test")
            await ended(pipeline, broker)

            assert set(pipeline.database.rows) == everything(30)
            assert not broker.sessions

    asyncio.run(scenario())


class HandsOutWithPauses(FakeBroker):
    """It keeps its queue back for `pause` seconds after UNSUBSCRIBE, and answers pings meanwhile."""

    pause = 0.0

    def packet_received(self, connection: ServerConnection, packet: mqtt5.Packet) -> None:
        super().packet_received(connection, packet)
        if self.pause and isinstance(packet, mqtt5.UnsubscribePacket):
            late = mqtt5.PublishPacket("t/late", b"late", qos=mqtt5.QoS(1), packet_id=60_000)
            asyncio.get_running_loop().call_later(self.pause, connection.write, late.write())


def test_a_broker_that_hands_out_its_queue_with_pauses_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # One second without a message was taken for an empty session, and the session was ended.
    async def scenario() -> None:
        async with HandsOutWithPauses() as broker, leaver(broker.port, tmp_path, drain_quiet=4) as pipeline:
            await subscribed(broker, pipeline)
            broker.pause = 2.5
            pipeline.stop.request("test")
            await ended(pipeline, broker, within=60)
            assert pipeline.database.rows == [b"late"]
            assert 60_000 in broker.puback_ids()
            assert not broker.sessions

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert "is drained: 1 message(s) came after it was unsubscribed" in caplog.text


class LosesTheGoodbye(FakeBroker):
    """The network becomes a black hole just before our DISCONNECT."""

    def packet_received(self, connection: ServerConnection, packet: mqtt5.Packet) -> None:
        if isinstance(packet, mqtt5.DisconnectPacket):
            connection.swallow()
        else:
            super().packet_received(connection, packet)


def test_a_session_is_removed_from_the_registry_only_after_the_broker_has_ended_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with LosesTheGoodbye() as broker, leaver(broker.port, tmp_path) as pipeline:
            await subscribed(broker, pipeline)
            pipeline.stop.request("test")
            await ended(pipeline, broker)
            assert CLIENT in broker.sessions
            assert pipeline.source.sessions_not_ended == 1

    asyncio.run(scenario())


def test_a_registry_that_cannot_be_written_does_not_keep_the_other_links_open_nor_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: str) -> None:
        raise OSError(28, "No space left on device")

    async def scenario() -> None:
        async with FakeBroker() as broker:
            async with leaver(broker.port, tmp_path, connections=3) as pipeline:
                await subscribed(broker, pipeline, links=3)
                monkeypatch.setattr(pipeline.source._registry, "remove", full)
                pipeline.stop.request("test")
                await ended(pipeline, broker)
                assert pipeline.source.sessions_not_ended == 3

            async with leaver(broker.port, tmp_path, connections=3) as again:
                await subscribed(broker, again, links=3)

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert "No space left on device" in caplog.text


def test_a_connection_that_is_made_again_while_draining_is_unsubscribed_again(tmp_path: Path) -> None:
    # `keep` was faster than `drain`: the new connection had subscribed again, and with a live stream the leaving never ended.
    async def scenario() -> None:
        limits = IngestLimits(end_sessions=True, stop_timeout=5.0)
        async with (
            FakeBroker(window=4, queue_limit=None) as broker,
            running(broker.port, tmp_path, connections=1, on_stop="leave", limits=limits) as pipeline,
        ):
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            await send(broker, 10)
            pipeline.stop.request("test")
            await broker.wait_for(lambda b: b.packets(mqtt5.UnsubscribePacket))
            broker.drop_connection()
            await pipeline.until(lambda: pipeline.meter.reconnects == 1)
            pipeline.database.gate.set()

            async with asyncio.timeout(15):
                number = 100
                while not pipeline.task.done():
                    await broker.publish("t/x", b"%d" % number)
                    number += 1
                    await asyncio.sleep(0.02)
            assert len(broker.packets(mqtt5.UnsubscribePacket)) >= 2

    asyncio.run(scenario())
