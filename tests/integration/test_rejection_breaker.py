"""A database that refuses every row: the fault is not in the rows, so they are kept until somebody mends the table."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from sensorsync.pipeline.contract import BatchRejected, Reading
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
