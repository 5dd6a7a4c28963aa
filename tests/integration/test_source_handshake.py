"""Edges of the handshake: races at its deadline, rivals, quotas, dead addresses, sessions that are not ours to touch."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import mqtt5
import pytest

from sensorsync.config import Settings
from sensorsync.mqtt.client.errors import SessionTakenOver
from sensorsync.mqtt.client.open import open_connection
from sensorsync.mqtt.client.options import ConnectOptions
from sensorsync.mqtt.subscriber.session_registry import SessionRecord, SessionRegistry
from sensorsync.pipeline.ingest import IngestLimits
from tests.fakes.broker import FakeBroker
from tests.fakes.connection import ServerConnection
from tests.pipelines import CLIENT, everything, kept, running, send, subscribed


class SlowOnce(FakeBroker):
    """When armed, its next CONNACK is on the wire in time, but the client is too busy to read it in time."""

    armed = False

    def _on_connect(self, connection: ServerConnection, packet: mqtt5.ConnectPacket) -> None:
        super()._on_connect(connection, packet)
        if self.armed:
            self.armed = False
            time.sleep(1.6)  # the loop is the client's, too: a starved CPU, a suspended machine


def test_a_connack_at_the_very_deadline_does_not_leave_a_second_connection_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with SlowOnce() as broker, running(broker.port, tmp_path, connections=1, connect_timeout=1.5) as pipeline:
            await subscribed(broker, pipeline)
            broker.armed = True
            broker.drop_connection()
            await pipeline.until(lambda: pipeline.meter.reconnects == 1)
            await broker.publish("t/x", b"after")
            await pipeline.until(lambda: pipeline.database.rows == [b"after"])
            assert not broker.armed
            assert broker.connected() == [CLIENT]

    asyncio.run(scenario())


class Rival(FakeBroker):
    """Once `here`, another client takes each session over in the moment in which we get it."""

    here = False

    def _on_connect(self, connection: ServerConnection, packet: mqtt5.ConnectPacket) -> None:
        super()._on_connect(connection, packet)
        if self.here:
            connection.disconnect(mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER)


def test_taken_over_in_the_same_breath_as_connack_we_do_not_fight(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Rival() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            broker.here = True
            broker.drop_connection()
            with pytest.raises(SessionTakenOver):
                await asyncio.wait_for(asyncio.shield(pipeline.task), 5)
            assert len(broker.packets(mqtt5.ConnectPacket)) == 2

    asyncio.run(scenario())


def test_a_session_that_the_broker_keeps_for_less_time_than_we_asked_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        broker = FakeBroker(session_expiry=60)
        async with broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await pipeline.until(lambda: "keeps sessions for only 60 s" in caplog.text)

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())


@contextmanager
def address_that_answers_nothing(port: int) -> Iterator[str]:
    """127.0.0.2 with a backlog that is full, so that the kernel drops each SYN."""
    with ExitStack() as stack:
        dead = stack.enter_context(socket.socket())
        dead.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        dead.bind(("127.0.0.2", port))
        dead.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.2", port))
        yield "127.0.0.2"


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is there on Linux only")
def test_a_dead_address_of_the_broker_does_not_cost_us_the_living_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker:
            with address_that_answers_nothing(broker.port) as dead:
                stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
                found = [(*stream, (address, broker.port)) for address in (dead, "127.0.0.1")]
                monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
                async with running(
                    broker.port, tmp_path, connections=1, host="two.example", connect_timeout=3
                ) as pipeline:
                    await subscribed(broker, pipeline)

    asyncio.run(scenario())


class ThreeAtMost(FakeBroker):
    """Its plan allows three connections."""

    refused = 0

    def _verdict(self, packet: mqtt5.ConnectPacket) -> mqtt5.ConnAckReasonCode:
        if len(self.connected()) < 3:
            return super()._verdict(packet)
        self.refused += 1
        return mqtt5.ConnAckReasonCode.QUOTA_EXCEEDED


@pytest.mark.parametrize("knobs", [{"receive_max": 32, "window": 32}, {"window": 20}], ids=["stated", "learned"])
def test_a_broker_that_grants_fewer_connections_than_auto_wants_is_used_with_those(
    tmp_path: Path, knobs: dict[str, Any]
) -> None:
    async def scenario() -> None:
        async with ThreeAtMost(**knobs) as broker:
            for _ in range(2):  # the second time, the registry knows the sessions of the first
                broker.refused = 0
                async with running(broker.port, tmp_path, batch_size=100, backoff_min=60, backoff_max=60) as pipeline:
                    await subscribed(broker, pipeline)
                    links = pipeline.source._links
                    if len(links) == 1:
                        pipeline.source._window_estimate.window = 20
                        pipeline.source._open_more_links(65535)
                    await broker.wait_for(lambda b, links=links: b.refused == len(links) - 3)  # type: ignore[misc]
                    await send(broker, 100)
                    await pipeline.until(lambda: set(pipeline.database.rows) == everything(100))
                    assert pipeline.source.connected
                    await pipeline.end()
                await broker.wait_for(lambda b: not b.connected())

    asyncio.run(scenario())


class Choosy(ThreeAtMost):
    """At first, its three places go to the links 0, 5 and 6."""

    choosing = True

    def _verdict(self, packet: mqtt5.ConnectPacket) -> mqtt5.ConnAckReasonCode:
        if self.choosing and packet.client_id.rpartition("-")[2] not in ("0", "5", "6"):  # and neither 10 nor 15
            return mqtt5.ConnAckReasonCode.QUOTA_EXCEEDED
        return super()._verdict(packet)


@pytest.mark.parametrize("client", ["native", "paho"])
def test_under_a_quota_the_sessions_that_hold_something_get_their_places_before_new_ones(
    tmp_path: Path, client: str
) -> None:
    settings = {"client": client, "batch_size": 50, "backoff_min": 60, "backoff_max": 60}

    async def scenario() -> None:
        async with Choosy(receive_max=32, window=32) as broker:
            async with running(broker.port, tmp_path, **settings) as pipeline:  # type: ignore[arg-type]
                await subscribed(broker, pipeline, links=3)
                await pipeline.end()
            with SessionRegistry.for_process(pipeline.settings, 0) as registry:
                numbers = {client_id.rpartition("-")[2] for client_id in registry.client_ids()}
                assert numbers == {"0", "5", "6"}  # the others never were
            await broker.wait_for(lambda b: not b.connected())
            broker.choosing = False
            await send(broker, 100)

            async with running(broker.port, tmp_path, **settings) as pipeline:  # type: ignore[arg-type]
                await pipeline.until(lambda: set(pipeline.database.rows) == everything(100))
                await pipeline.end()

    asyncio.run(scenario())


def test_a_session_that_the_quota_keeps_us_from_is_not_taken_for_an_idle_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ThreeAtMost(receive_max=65535) as broker:
            settings = Settings.model_validate(
                {"mqtt": {"host": "127.0.0.1", "port": broker.port, "instance": "test"}, "state_dir": str(tmp_path)}
            )
            with SessionRegistry.for_process(settings, 0) as registry:
                registry.save({f"{CLIENT[:-1]}{n}": SessionRecord(("$share/sensorsync/t/#",)) for n in range(4)})
            async with running(broker.port, tmp_path, max_connections=4, backoff_min=60, backoff_max=60) as pipeline:
                await pipeline.until(lambda: broker.refused == 1 and pipeline.meter.links == 3)
                assert not pipeline.source.connected

    asyncio.run(scenario())


def test_ending_sessions_does_not_wait_for_links_that_the_quota_never_let_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"batch_size": 50, "backoff_min": 60, "backoff_max": 60, "on_stop": "leave"}
    limits = IngestLimits(end_sessions=True, stop_timeout=30.0)

    async def scenario() -> None:
        async with ThreeAtMost(receive_max=32, window=32) as broker:
            async with running(broker.port, tmp_path, limits=limits, **settings) as pipeline:  # type: ignore[arg-type]
                await subscribed(broker, pipeline, links=3)
                async with asyncio.timeout(10):
                    await pipeline.end()
            assert pipeline.source.sessions_not_ended == 0
            await broker.wait_for(lambda b: not b.sessions)

    asyncio.run(scenario())
    assert "could not be drained" not in caplog.text


def test_an_ephemeral_run_leaves_the_lasting_session_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker:
            async with running(broker.port, tmp_path, connections=1) as lasting:
                await subscribed(broker, lasting)
                await lasting.end()
            await send(broker, 40)
            async with running(broker.port, tmp_path, connections=1, ephemeral=True) as ephemeral:
                await subscribed(broker, ephemeral, links=2)
                await ephemeral.end()
            await broker.wait_for(lambda b: list(b.sessions) == [CLIENT])
            assert kept(broker) == everything(40)

            async with running(broker.port, tmp_path, connections=1) as again:
                await again.until(lambda: set(again.database.rows) == everything(40))

    asyncio.run(scenario())


class Mute:
    """An owner that takes no notice."""

    def connection_ready(self, connection: object) -> None:
        pass

    def packets_received(self, packets: object, *, more: bool) -> None:
        pass

    def connection_lost(self, error: object) -> None:
        pass

    def writing_paused(self, paused: bool) -> None:
        pass


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_connect_that_is_cancelled_at_any_step_leaves_no_socket_open(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def cancelled_after(steps: int, port: int) -> bool:
        """Whether it was; else it was quicker, and is dropped."""
        task = asyncio.create_task(open_connection(ConnectOptions(host, port, f"c{steps}"), Mute()))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result().abort(None)
        return task.cancelled()

    async def scenario() -> None:
        async with FakeBroker() as broker:
            steps = 0
            while steps < 40 and await cancelled_after(steps, broker.port):
                steps += 1
            assert steps > 5
            await broker.wait_for(lambda b: not b._connections)
            while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - a race of addresses ends by itself, and tells nobody
                await asyncio.sleep(0.005)
            gc.collect()  # a socket that was forgotten warns now, and warnings are errors

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert not caplog.records
