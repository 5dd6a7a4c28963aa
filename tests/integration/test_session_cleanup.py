"""Sessions that are to end: never before all that they hold is stored, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from sensorsync.mqtt.subscriber.session_registry import SessionRegistry
from sensorsync.pipeline.contract import Reading, SinkMisconfigured
from sensorsync.pipeline.ingest import IngestLimits
from tests.fakes.broker import FakeBroker
from tests.pipelines import Running, running, subscribed

FIRST, LAST = "sensorsync-test-0-0", "sensorsync-test-0-2"


async def three_links_with_300_messages(broker: FakeBroker, state: Path) -> None:
    """Three sessions that nobody is connected to, with 100 messages each."""
    async with running(broker.port, state, connections=3) as pipeline:
        await pipeline.until(lambda: sum(bool(session.subscriptions) for session in broker.sessions.values()) == 3)
        await pipeline.end()
    for number in range(300):
        await broker.publish("t/x", b"%d" % number)


def stored_all(pipeline: Running) -> bool:
    return set(pipeline.database.rows) == {b"%d" % number for number in range(300)}


def test_a_connection_lost_while_draining_is_made_again_until_the_session_is_empty(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker(queue_limit=None) as broker:
            await three_links_with_300_messages(broker, tmp_path)
            async with running(broker.port, tmp_path, connections=1) as pipeline:
                pipeline.database.gate.clear()
                await pipeline.until(lambda: len(broker.sessions[LAST].inflight) == 32)
                broker.drop_connection(LAST)
                await pipeline.until(lambda: LAST not in broker.connected())
                pipeline.database.gate.set()
                await pipeline.until(lambda: list(broker.sessions) == [FIRST] and pipeline.source.connected)
                await pipeline.until(lambda: stored_all(pipeline))

    asyncio.run(scenario())


def test_a_soft_stop_while_draining_keeps_the_session_and_the_next_start_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker(queue_limit=None) as broker:
            await three_links_with_300_messages(broker, tmp_path)
            async with running(broker.port, tmp_path, connections=1) as pipeline:
                pipeline.database.gate.clear()
                await pipeline.until(lambda: len(broker.sessions[LAST].inflight) == 32)
                pipeline.stop.request("test")
                await asyncio.sleep(1.5)  # longer than a session must be quiet to count as drained
                pipeline.database.gate.set()
                await pipeline.task
                rows = list(pipeline.database.rows)
            assert len(rows) < 300
            assert LAST in broker.sessions

            async with running(broker.port, tmp_path, connections=1, database=pipeline.database) as again:
                await again.until(lambda: list(broker.sessions) == [FIRST] and again.source.connected)
                await again.until(lambda: stored_all(again))

    asyncio.run(scenario())


def test_a_session_that_is_to_be_ended_is_kept_when_the_database_refuses_what_it_holds(tmp_path: Path) -> None:
    def no_table(_: Sequence[Reading]) -> None:
        raise SinkMisconfigured("no table")

    async def scenario() -> None:
        async with FakeBroker(queue_limit=None) as broker:
            limits = IngestLimits(end_sessions=True, stop_timeout=5.0)
            async with running(broker.port, tmp_path, connections=1, on_stop="leave", limits=limits) as pipeline:
                pipeline.database.before_commit = no_table
                await subscribed(broker, pipeline)
                await broker.publish("t/x", b"precious")
                with pytest.raises(SinkMisconfigured):
                    await asyncio.wait_for(pipeline.task, 10)
            assert pipeline.source.sessions_not_ended == 1
            assert [message.payload for message in broker.sessions[FIRST].undelivered()] == [b"precious"]
            with SessionRegistry.for_process(pipeline.settings, 0) as registry:
                assert registry.client_ids() == (FIRST,)

    asyncio.run(scenario())


def test_a_connection_lost_while_ending_sessions_is_made_again_and_the_session_drained(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker(queue_limit=None) as broker:
            limits = IngestLimits(end_sessions=True, stop_timeout=5.0)
            async with running(broker.port, tmp_path, connections=1, on_stop="leave", limits=limits) as pipeline:
                await subscribed(broker, pipeline)
                pipeline.database.gate.clear()
                for number in range(100):
                    await broker.publish("t/x", b"%d" % number)
                await pipeline.until(lambda: len(broker.sessions[FIRST].inflight) == 32)
                pipeline.stop.request("test")
                await broker.wait_for(lambda b: not b.sessions[FIRST].subscriptions)
                broker.drop_connection(FIRST)
                pipeline.database.gate.set()
                await pipeline.task
                assert set(pipeline.database.rows) == {b"%d" % number for number in range(100)}
            assert pipeline.source.sessions_not_ended == 0
            await broker.wait_for(lambda b: not b.sessions)

    asyncio.run(scenario())


def test_a_broker_that_is_away_when_the_sessions_are_to_be_ended_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = FakeBroker(queue_limit=None)
        await broker.start()
        limits = IngestLimits(end_sessions=True, stop_timeout=1.0)
        async with running(broker.port, tmp_path, connections=1, on_stop="leave", limits=limits) as pipeline:
            settings = pipeline.settings
            quick = settings.pipeline.model_copy(update={"stop_timeout": 1.0})
            pipeline.source._settings = settings.model_copy(update={"pipeline": quick})
            await subscribed(broker, pipeline)
            await broker.stop()
            pipeline.stop.request("test")
            await asyncio.wait_for(pipeline.task, 10)
        assert pipeline.source.sessions_not_ended == 1

    asyncio.run(scenario())
