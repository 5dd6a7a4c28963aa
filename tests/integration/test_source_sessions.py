"""How many sessions the source has at a broker, and how fast it opens them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mqtt5
import pytest

from sensorsync.mqtt.subscriber.pacing import NEW_AT_ONCE, TAKEOVER_GAP, TAKEOVERS
from tests.fakes.broker import FakeBroker
from tests.fakes.connection import ServerConnection
from tests.pipelines import everything, running, send, standing_at_the_gate, subscribed

BURST = 8000
KILLED_ABOVE = 1000


def wide_emqx() -> FakeBroker:
    """An EMQX with a wide window and a long queue, and with force_shutdown as it is by default."""
    return FakeBroker(receive_max=1000, window=1000, queue_limit=100_000, kill_above=KILLED_ABOVE)


@pytest.mark.parametrize("mqtt", [{}, {"ephemeral": True}], ids=["lasting", "ephemeral"])
def test_the_sessions_of_auto_share_a_burst_so_that_none_holds_what_a_broker_kills_it_for(
    tmp_path: Path, mqtt: dict[str, Any]
) -> None:
    async def scenario() -> None:
        async with wide_emqx() as broker, running(broker.port, tmp_path, **mqtt) as pipeline:
            await subscribed(broker, pipeline, links=16)
            pipeline.database.gate.clear()
            await send(broker, BURST)
            await standing_at_the_gate(pipeline.database)
            assert broker.killed == []

            pipeline.database.gate.set()
            await pipeline.until(lambda: pipeline.meter.settled == BURST)
            assert set(pipeline.database.rows) == everything(BURST)
            assert (len(broker.connected()), pipeline.meter.sessions_lost) == (16, 0)

    asyncio.run(scenario())


def test_few_sessions_are_killed_with_what_they_hold_and_the_warning_names_the_setting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with wide_emqx() as broker, running(broker.port, tmp_path, connections=4) as pipeline:
            await subscribed(broker, pipeline, links=4)
            pipeline.database.gate.clear()
            await send(broker, BURST)
            assert len(broker.killed) > KILLED_ABOVE

            pipeline.database.gate.set()
            await pipeline.until(lambda: pipeline.meter.sessions_lost > 0)

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert "force_shutdown { max_mailbox_size = 100000, max_heap_size = 512MB }" in caplog.text


def test_auto_keeps_to_max_connections_below_its_least(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker(window=5000) as broker, running(broker.port, tmp_path, max_connections=3) as pipeline:
            await subscribed(broker, pipeline, links=3)
            assert len(broker.connected()) == 3

    asyncio.run(scenario())


def test_the_links_of_auto_share_the_messages_that_may_be_in_memory(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker(window=5000) as broker, running(broker.port, tmp_path) as pipeline:
            await subscribed(broker, pipeline, links=16)
            stated = [packet.receive_max for packet in broker.packets(mqtt5.ConnectPacket)]
            assert stated == [250] * 16  # 2 x 2 x 1000 in all, with that of the first link

    asyncio.run(scenario())


def connect_times(broker: FakeBroker, since: float) -> list[float]:
    """When CONNECTs came, in seconds after `since`, in order."""
    times = [entry.at - since for entry in broker.seen if isinstance(entry.packet, mqtt5.ConnectPacket)]
    return sorted(at for at in times if at >= 0)


def earliest(count: int) -> list[float]:
    """The earliest times at which so many paced CONNECTs may come."""
    return [number // TAKEOVERS * TAKEOVER_GAP for number in range(count)]


async def started_once(broker: FakeBroker, state: Path, links: int) -> None:
    """Leave so many sessions in the broker and in the registry."""
    async with running(broker.port, state, connections=links) as pipeline:
        await subscribed(broker, pipeline, links)


@pytest.mark.parametrize("connections", [48, "auto"])
def test_sessions_that_exist_are_taken_over_a_few_at_a_time(tmp_path: Path, connections: int | str) -> None:
    async def scenario() -> None:
        async with FakeBroker(window=5000) as broker:
            await started_once(broker, tmp_path, 48)
            began = time.monotonic()
            async with running(broker.port, tmp_path, connections=connections) as pipeline:
                await subscribed(broker, pipeline, 48)
                times = connect_times(broker, began)
                assert len(times) == 48
                assert [at for at, bound in zip(times, earliest(48), strict=True) if at < bound] == []

    asyncio.run(scenario())


def test_links_that_lost_their_connections_together_come_back_a_few_at_a_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            FakeBroker() as broker,
            running(broker.port, tmp_path, connections=48, backoff_min=0.001, backoff_max=0.001) as pipeline,
        ):
            await subscribed(broker, pipeline, 48)
            began = time.monotonic()
            broker.drop_connection()
            await pipeline.until(lambda: pipeline.meter.reconnects == 48)
            times = connect_times(broker, began)
            assert len(times) == 48
            assert [at for at, bound in zip(times, earliest(48), strict=True) if at < bound] == []

    asyncio.run(scenario())


def test_sessions_that_are_only_ended_are_taken_over_a_few_at_a_time_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker:
            await started_once(broker, tmp_path, 24)
            began = time.monotonic()
            async with running(broker.port, tmp_path, connections=1) as pipeline:
                await pipeline.until(lambda: len(connect_times(broker, began)) == 24)
                times = connect_times(broker, began)
                assert [at for at, bound in zip(times, earliest(24), strict=True) if at < bound] == []

    asyncio.run(scenario())


class Slow(FakeBroker):
    """It takes 50 ms and more before it answers a CONNECT."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.waiting: list[Callable[[], None]] = []
        self.most_waiting = 0

    def _on_connect(self, connection: ServerConnection, packet: mqtt5.ConnectPacket) -> None:
        answer = super()._on_connect
        self.waiting.append(lambda: answer(connection, packet))
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        if len(self.waiting) == 1:
            asyncio.get_running_loop().call_later(0.05, self._release)

    def _release(self) -> None:
        waiting, self.waiting = self.waiting, []
        for answer in waiting:
            answer()


def test_new_sessions_are_made_sixteen_at_a_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Slow() as broker, running(broker.port, tmp_path, connections=40) as pipeline:
            await subscribed(broker, pipeline, 40)
            assert 1 < broker.most_waiting <= NEW_AT_ONCE

    asyncio.run(scenario())
