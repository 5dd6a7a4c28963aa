"""Back-pressure: too much in memory leaves the rest in the sockets, whatever else goes on there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import mqtt5

from sensorsync.mqtt.subscriber.link import Link
from sensorsync.pipeline.ingest import IngestLimits
from tests.fakes.broker import FakeBroker
from tests.pipelines import Database, everything, running, send, subscribed


def left_alone(link: Link) -> bool:
    """Whether the link's socket is not read."""
    return link.connection is not None and link.connection._reading_paused


def test_a_start_that_meets_more_than_it_may_hold_still_reads_the_suback(tmp_path: Path) -> None:
    async def scenario() -> None:
        database = Database()
        payload = b"%d" + b"-" * 1000
        async with FakeBroker(window=50) as broker:
            async with running(broker.port, tmp_path, connections=1) as before:
                await subscribed(broker, before)
                await before.end()
            await send(broker, 50, payload)
            database.gate.clear()
            limits = IngestLimits(queue_bytes=10_000, stop_timeout=5.0)
            async with running(
                broker.port, tmp_path, connections=1, database=database, limits=limits, connect_timeout=5
            ) as pipeline:
                await pipeline.until(lambda: any(link.connected_once for link in pipeline.source._links))
                assert left_alone(pipeline.source._links[0])
                database.gate.set()
                await pipeline.until(lambda: set(database.rows) == everything(50, payload))
                assert pipeline.meter.reconnects == 0

    asyncio.run(scenario())


def test_links_that_open_under_back_pressure_are_not_read_either(tmp_path: Path) -> None:
    async def scenario() -> None:
        limits = IngestLimits(queue_bytes=50_000, stop_timeout=5.0)
        payload = b"%d" + b"-" * 10_000
        async with (
            FakeBroker(window=20, queue_limit=None) as broker,
            running(broker.port, tmp_path, batch_size=100, limits=limits) as pipeline,
        ):
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            await send(broker, 20, payload)
            await pipeline.until(lambda: pipeline.source._paused)
            pipeline.source._window_estimate.window = 20
            pipeline.source._open_more_links(65535)  # as what was settled before the pressure may bring about
            await pipeline.until(lambda: len(pipeline.source._links) == 20)
            await pipeline.until(lambda: all(link.connected_once for link in pipeline.source._links))
            assert all(left_alone(link) for link in pipeline.source._links)

            pipeline.database.gate.set()
            await pipeline.until(lambda: set(pipeline.database.rows) == everything(20, payload))
            assert not any(left_alone(link) for link in pipeline.source._links)

    asyncio.run(scenario())


def test_a_link_that_comes_back_under_back_pressure_is_not_read_either(tmp_path: Path) -> None:
    async def scenario() -> None:
        limits = IngestLimits(queue_limit=100, stop_timeout=5.0)
        async with (
            FakeBroker(queue_limit=None) as broker,
            running(broker.port, tmp_path, connections=1, keep_alive=4, limits=limits) as pipeline,
        ):
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            for _ in range(200):
                await broker.publish("t/x", b"-", qos=0)
            await pipeline.until(lambda: pipeline.source._paused)
            broker.drop_connection()  # which only a write can notice now: the next ping
            await broker.wait_for(lambda b: len(b.packets(mqtt5.SubscribePacket)) == 2, timeout=90)
            await pipeline.until(lambda: pipeline.meter.reconnects == 1)
            assert left_alone(pipeline.source._links[0])

    asyncio.run(scenario())


def test_links_that_flap_during_an_outage_do_not_fill_the_memory(tmp_path: Path) -> None:
    async def scenario() -> None:
        window, links = 20, 3

        def full(link: Link) -> bool:
            return link.connected and link.ledger.in_flight == window

        async with (
            FakeBroker(window=window, queue_limit=None) as broker,
            running(broker.port, tmp_path, connections=links, receive_maximum=window) as pipeline,
        ):
            await subscribed(broker, pipeline, links)
            pipeline.database.gate.clear()
            await send(broker, 200)
            for _ in range(2):
                await pipeline.until(lambda: all(map(full, pipeline.source._links)))
                broker.drop_connection()
                await pipeline.until(lambda: pipeline.meter.links == 0)
            await asyncio.sleep(0.3)  # several back-offs; there is nothing to wait for: nothing must happen
            assert broker.connected() == []
            assert pipeline.meter.queue_depth == links * 2 * window

            pipeline.database.gate.set()
            await pipeline.until(lambda: set(pipeline.database.rows) == everything(200) and pipeline.source.connected)

    asyncio.run(scenario())


def test_while_reading_is_paused_pings_keep_their_interval_and_no_answer_is_missed(tmp_path: Path) -> None:
    async def scenario() -> None:
        limits = IngestLimits(queue_bytes=1000, stop_timeout=5.0)
        async with (
            FakeBroker() as broker,
            running(broker.port, tmp_path, connections=1, keep_alive=4, limits=limits) as pipeline,
        ):
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            await send(broker, 10, b"%d" + b"-" * 900)
            await pipeline.until(lambda: pipeline.source._paused)
            pinged = len(broker.packets(mqtt5.PingReqPacket))
            await broker.wait_for(lambda b: len(b.packets(mqtt5.PingReqPacket)) >= pinged + 3, timeout=90)

            at = [entry.at for entry in broker.seen if isinstance(entry.packet, mqtt5.PingReqPacket)][pinged:]
            assert (at[-1] - at[0]) / (len(at) - 1) > 1.2  # half of the keep-alive interval is their pace
            assert pipeline.meter.reconnects == 0

    asyncio.run(scenario())
