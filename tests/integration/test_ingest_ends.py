"""How a pipeline ends when something in it fails: nothing runs half-dead, and nothing unsettled is acknowledged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from sensorsync.errors import SensorsyncError
from sensorsync.pipeline.contract import Reading, SinkMisconfigured, SinkUnavailable
from sensorsync.pipeline.ingest import IngestLimits
from tests.fakes.broker import FakeBroker
from tests.pipelines import Database, running

CLIENT = "sensorsync-test-0-0"


class Bug(Exception):
    """Something that no writer foresees."""


class Panic(BaseException):
    """What an extension in Rust raises when it panics: no Exception."""


@pytest.mark.parametrize(
    "fault",
    [
        Bug("boom"),
        SinkMisconfigured("no such table", errno=1146),
        Panic("of a native extension"),
        SystemExit(0),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
    ],
)
def test_a_writer_that_dies_stops_the_process_with_its_error_and_acknowledges_nothing(
    tmp_path: Path, fault: BaseException
) -> None:
    async def scenario() -> None:
        database = Database()

        def die(_: Sequence[Reading]) -> None:
            raise fault

        database.before_commit = die
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1, database=database) as pipeline:
            await pipeline.until(lambda: CLIENT in broker.sessions and bool(broker.sessions[CLIENT].subscriptions))
            for number in range(20):
                await broker.publish("t/x", b"%d" % number)
            with pytest.raises((SinkMisconfigured, SensorsyncError)) as caught:
                await asyncio.wait_for(asyncio.shield(pipeline.task), 5)
            assert fault in (caught.value, caught.value.__cause__)
            assert broker.puback_ids() == []
            assert len(broker.sessions[CLIENT].undelivered()) == 20

    asyncio.run(scenario())


def test_while_one_writer_dies_what_another_commits_is_still_acknowledged(tmp_path: Path) -> None:
    async def scenario() -> None:
        database = Database()

        def die_for_the_second(readings: Sequence[Reading]) -> None:
            if any(reading.event_id == b"deadly" for reading in readings):
                raise Bug

        database.before_commit = die_for_the_second
        database.gate.clear()
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1, database=database) as pipeline:
            await pipeline.until(lambda: CLIENT in broker.sessions and bool(broker.sessions[CLIENT].subscriptions))
            await broker.publish("t/x", b"first")
            await asyncio.to_thread(database.waiting.acquire, timeout=5)
            await broker.publish("t/x", b"deadly")
            await pipeline.until(lambda: pipeline.stop.requested)
            database.gate.set()
            with pytest.raises(SensorsyncError, match=r"did not foresee \(Bug\)"):
                await asyncio.wait_for(asyncio.shield(pipeline.task), 5)
            assert database.rows == [b"first"]
            assert broker.puback_ids() == [1]

    asyncio.run(scenario())


def test_at_the_stop_deadline_what_is_unsettled_is_left_to_the_broker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        database = Database()

        def away(_: Sequence[Reading]) -> None:
            raise SinkUnavailable("gone", errno=2003)

        database.before_commit = away
        limits = IngestLimits(stop_timeout=0.3)
        async with (
            FakeBroker() as broker,
            running(broker.port, tmp_path, connections=1, database=database, limits=limits) as pipeline,
        ):
            await pipeline.until(lambda: CLIENT in broker.sessions and bool(broker.sessions[CLIENT].subscriptions))
            for number in range(20):
                await broker.publish("t/x", b"%d" % number)
            await pipeline.until(lambda: pipeline.meter.received == 20)
            await pipeline.end()
            assert broker.puback_ids() == []

        database.before_commit = lambda _: None
        async with FakeBroker(port=0) as fresh, running(fresh.port, tmp_path, connections=1) as again:
            await again.until(lambda: again.source.connected)

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert "stop deadline reached: 20 messages stay unacknowledged" in caplog.text
    assert "batch kept" in caplog.text
