"""A database that refuses every row: the fault is not in the rows, so they are kept until somebody mends the table."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from sensorsync.pipeline.contract import BatchRejected, Reading, RowSuspected
from tests.fakes.broker import FakeBroker
from tests.pipelines import Database, everything, kept, running, send, subscribed

VIOLATED = "Check constraint 'temperature_is_in_kelvin' is violated"


def refuse(_: Sequence[Reading]) -> None:
    raise BatchRejected(VIOLATED, errno=3819)


def test_a_hundred_rejections_in_a_row_keep_the_batch_until_the_table_is_fixed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        database = Database()
        async with FakeBroker(window=150) as broker:
            async with running(broker.port, tmp_path, connections=1) as before:
                await subscribed(broker, before)
                await before.end()
            await send(broker, 150)  # so that they wait in the session and come as one batch
            database.before_commit = refuse
            async with running(broker.port, tmp_path, connections=1, workers=1, database=database) as pipeline:
                await pipeline.until(lambda: any(record.__dict__.get("event") == "kept" for record in caplog.records))
                assert database.rows == []
                assert pipeline.box.letters == []
                assert broker.puback_ids() == []

                database.before_commit = lambda _: None
                await broker.wait_for(lambda b: len(b.puback_ids()) == 150)
                assert not kept(broker)
                assert set(database.rows) == everything(150)
                assert pipeline.box.letters == []

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    said = {record.getMessage().partition("; batch kept")[0] for record in caplog.records}
    assert said == {f"[WORKER-0] the database rejects every row; the batch is retried, nothing is parked: {VIOLATED}"}
    assert all("sensorsync init-db --check" in record.getMessage() for record in caplog.records)


def test_a_message_that_is_set_aside_stops_no_other_and_is_acknowledged_once_it_is_decided(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        database = Database()

        def refuse_five(rows: Sequence[Reading]) -> None:
            if b"5" in {row.event_id for row in rows}:
                if len(rows) > 1:
                    raise BatchRejected("no", errno=9876)
                raise RowSuspected("no", errno=9876, other_row_accepted=False)

        database.before_commit = refuse_five
        async with (
            FakeBroker(window=50) as broker,
            running(broker.port, tmp_path, connections=1, workers=1, database=database) as pipeline,
        ):
            await subscribed(broker, pipeline)
            await send(broker, 20)
            await pipeline.until(lambda: len(database.rows) == 19)
            await broker.wait_for(lambda b: len(b.puback_ids()) == 5)  # in order: what comes after it waits
            assert pipeline.meter.queue_depth == 1
            assert pipeline.meter.oldest_arrival() is not None

            database.before_commit = lambda _: None
            await broker.wait_for(lambda b: len(b.puback_ids()) == 20)
            await pipeline.until(lambda: pipeline.meter.queue_depth == 0)
            assert set(database.rows) == everything(20)
            assert pipeline.meter.oldest_arrival() is None
            assert pipeline.box.letters == []
            assert not kept(broker)

    asyncio.run(scenario())
    assert sum(record.__dict__.get("event") == "set_aside" for record in caplog.records) == 1


def test_what_is_set_aside_at_a_stop_is_left_to_the_broker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        database = Database()

        def suspect(_: Sequence[Reading]) -> None:
            raise RowSuspected("no", errno=9876, other_row_accepted=True)

        database.before_commit = suspect
        async with FakeBroker(window=50) as broker:
            async with running(broker.port, tmp_path, connections=1, workers=1, database=database) as pipeline:
                await subscribed(broker, pipeline)
                await send(broker, 1)
                await pipeline.until(lambda: any(r.__dict__.get("event") == "set_aside" for r in caplog.records))
                await asyncio.wait_for(pipeline.end(), 5)
            assert broker.puback_ids() == []
            assert kept(broker) == everything(1)

    asyncio.run(scenario())
    assert "1 messages that were set aside stay unacknowledged, the broker will send them again" in caplog.messages
