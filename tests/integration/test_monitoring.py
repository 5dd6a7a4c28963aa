"""Monitoring beside a pipeline: what it sees of the broker, the database and the dead-letter box."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pymysql
import pytest

from sensorsync.config import Settings
from sensorsync.deadletters import DeadLetters
from sensorsync.pipeline.contract import DeadLetter, SinkUnavailable
from sensorsync.service.health import metrics_endpoint
from sensorsync.service.metrics.aggregator import MetricsAggregator
from sensorsync.service.metrics.process_report import process_report
from sensorsync.storage import sqlite_file
from sensorsync.storage.open import open_store
from tests.conftest import Database
from tests.fakes.broker import FakeBroker
from tests.pipelines import Database as HeldDatabase
from tests.pipelines import running, send, standing_at_the_gate, subscribed
from tests.rows import readings
from tests.services.process import free_port
from tests.unit.service.metrics.process_reports import sample_report


def test_what_a_pipeline_holds_is_seen_while_it_waits_for_its_commit_and_gone_after_it(tmp_path: Path) -> None:
    async def story() -> None:
        database = HeldDatabase()
        database.gate.clear()
        async with (
            FakeBroker() as broker,
            running(broker.port, tmp_path, database=database, connections=1, receive_maximum=20) as pipeline,
        ):
            await subscribed(broker, pipeline)
            await send(broker, 5)
            await standing_at_the_gate(database)
            await pipeline.until(lambda: pipeline.meter.received == 5)
            loop = asyncio.get_running_loop()
            held = process_report(pipeline.meter, None, loop.time() + 100.0, stall_after=60.0)
            assert 100.0 <= held["values"]["sensorsync_oldest_unacknowledged_seconds"][0][1][0] < 120.0
            assert held["failing"].keys() == {"stall"}
            assert held["values"]["sensorsync_queue_messages"] == [([], [5])]
            assert held["values"]["sensorsync_queue_bytes"] == [([], [5 * len("t/x0")])]
            assert held["values"]["sensorsync_link_in_flight_messages"] == [(["0"], [5])]
            assert held["values"]["sensorsync_broker_links"] == [([], [1])]

            database.gate.set()
            await pipeline.until(lambda: pipeline.meter.settled == 5)
            after = process_report(pipeline.meter, None, loop.time() + 100.0, stall_after=60.0)
            assert after["failing"] == {}
            for name in ("oldest_unacknowledged_seconds", "queue_messages", "queue_bytes"):
                assert after["values"][f"sensorsync_{name}"] == [([], [0])]
            assert sum(after["values"]["sensorsync_received_to_stored_seconds"][0][1][1:]) == 5
            assert after["values"]["sensorsync_batch_size_messages"][0][1][0] == 5

    asyncio.run(story())


def test_a_read_only_server_answers_and_is_not_writable(database: Database) -> None:
    database.prepare()
    with closing(open_store(database.settings())) as store, database.connect() as root, root.cursor() as cursor:
        store.check_writable()
        cursor.execute("SET GLOBAL read_only = ON")
        try:
            with pytest.raises(SinkUnavailable, match=r"read.only"):
                store.check_writable()
        finally:
            cursor.execute("SET GLOBAL read_only = OFF")
        store.check_writable()


def test_a_pool_counts_what_it_opened_lent_and_threw_away(database: Database) -> None:
    database.prepare()
    with closing(open_store(database.settings())) as store:
        pool = store.pool_counters
        assert pool is not None
        sink = store.create_sink(0)
        assert (pool.size, pool.in_use, pool.opened, pool.discarded) == (20, 0, 0, 0)
        sink.write(readings(1))
        assert (pool.in_use, pool.opened, pool.discarded) == (1, 1, 0)
        with database.connect() as root, root.cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE user = %s", (database.user,))
            for (number,) in cursor.fetchall():
                with contextlib.suppress(pymysql.OperationalError):  # it has gone since
                    cursor.execute(f"KILL {number}")
        with pytest.raises(SinkUnavailable):
            sink.write(readings(1))
        assert (pool.in_use, pool.opened, pool.discarded) == (0, 1, 1)
        sink.write(readings(1))
        assert (pool.in_use, pool.opened, pool.discarded, pool.waits) == (1, 2, 1, 0)
        sink.close()
        assert pool.in_use == 0


def test_the_dead_letter_probe_counts_letters_and_reports_a_locked_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr("sensorsync.service.metrics.health_probe._MIN_PAUSE_FACTOR", 1)
    settings = Settings.model_validate(
        {
            "metrics": {"listen": f"127.0.0.1:{free_port()}", "check_interval": 0.02},
            "database": {"driver": "sqlite", "path": str(tmp_path / "readings.sqlite")},
            "state_dir": str(tmp_path),
        }
    )
    open_store(settings.database).migrate()
    box = DeadLetters.from_settings(settings)
    box.open()
    box.park([DeadLetter("t", b"x", 1, None, "json", None, "not JSON", 1000.0)])
    box.close()

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.01)

    async def story() -> None:
        async with metrics_endpoint(settings) as aggregator:
            assert isinstance(aggregator, MetricsAggregator)
            aggregator.update(0, sample_report(0))
            await until(lambda: not any(aggregator.checks().values()))
            values = aggregator.values()
            assert values["sensorsync_dead_letters"] == [(["parked"], [1]), (["quarantined"], [0])]
            assert values["sensorsync_dead_letter_oldest_timestamp_seconds"] == [([], [1000.0])]
            with _locked(settings.dead_letter_path):
                await until(lambda: "database is locked" in (aggregator.checks()["dead_letters"] or ""))
            await until(lambda: aggregator.checks()["dead_letters"] is None)
            with _locked(tmp_path / "readings.sqlite"):
                await until(lambda: aggregator.checks()["database"] is not None)
            await until(lambda: not any(aggregator.checks().values()))

    asyncio.run(story())


def test_without_an_address_nothing_is_served_and_nothing_is_watched(tmp_path: Path) -> None:
    async def story() -> None:
        async with metrics_endpoint(Settings.model_validate({"state_dir": str(tmp_path)})) as aggregator:
            assert aggregator is None

    asyncio.run(story())
    assert list(tmp_path.iterdir()) == []


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Another program holds the write lock."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
