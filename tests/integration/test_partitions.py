"""`init-db --partitions --retain` on a real server."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sensorsync.cli import main
from sensorsync.errors import AlreadyRunningError
from sensorsync.pipeline.contract import Reading
from sensorsync.storage.mysql import partition_maintenance, schema
from sensorsync.storage.mysql.partitions import DAYS_AHEAD
from sensorsync.storage.mysql.store import MySqlStore
from sensorsync.storage.store import MaintenanceReport
from tests.commands import Commands
from tests.conftest import Database
from tests.integration.mysql_bench import run_as_root
from tests.rows import readings
from tests.services import eventually

pytestmark = pytest.mark.database

DAY = timedelta(days=1)


@pytest.fixture
def place(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """The tables, without partitions; commands run as the owner."""
    database.prepare()
    for name, value in database.environment("owner").items():
        monkeypatch.setenv(name, value)
    return database


def aged(*days: float) -> list[Reading]:
    """A reading for each of these ages."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return [
        one._replace(ts=(now - age * DAY).isoformat(" ", "microseconds"))
        for one, age in zip(readings(len(days)), days, strict=True)
    ]


def write(place: Database, rows: list[Reading]) -> None:
    with closing(MySqlStore(place.settings())) as store:
        assert store.create_sink(0).write(rows) == len(rows)


def query(place: Database, statement: str) -> list[tuple[Any, ...]]:
    return run_as_root(place.server, statement, database=place.name)


def ages(place: Database) -> list[int]:
    return [row[0] for row in query(place, "SELECT DATEDIFF(UTC_TIMESTAMP(), ts) FROM sensor_readings ORDER BY 1")]


def partitions(place: Database) -> list[Any]:
    """Their names, in order; [None] for a table that has none."""
    found = query(
        place,
        "SELECT partition_name FROM information_schema.partitions WHERE table_schema = DATABASE()"
        " AND table_name = 'sensor_readings' ORDER BY partition_ordinal_position",
    )
    return [row[0] for row in found]


def maintain(place: Database, retain: float | None = None, *, dry_run: bool = False) -> MaintenanceReport:
    with closing(MySqlStore(place.settings("owner"))) as store:
        return store.maintain(None if retain is None else retain * DAY, partitions=True, dry_run=dry_run)


def envelope(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


# -- the command -------------------------------------------------------------------------------------------------------


def test_one_line_for_cron_makes_partitions_keeps_them_and_does_nothing_twice(
    place: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["init-db", "--partitions", "--retain", "90d"]
    assert main([*line, "--check"]) == 5
    assert "to add    p_past to p20" in capsys.readouterr().out
    assert partitions(place) == [None]
    assert main([*line, "--json"]) == 0
    first = envelope(capsys)["data"]["upkeep"]
    assert partitions(place) == [*first["added"], "p_future"]
    assert len(first["added"]) == DAYS_AHEAD + 2
    for words in (line, ["init-db", "--retain", "90d"], [*line, "--check"]):
        assert main(words) == 0
        assert "Nothing to keep in order." in capsys.readouterr().out
    assert main(["init-db", "--check"]) == 0, "a partitioned table is as it should be"
    write(place, aged(0, 1, 20_000, -20_000))


def test_a_table_with_rows_is_only_rebuilt_by_somebody_who_agreed(
    place: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    write(place, aged(0, 5, 10, 40))
    assert main(["init-db", "--retain", "30d"]) == 2
    assert "add --partitions" in capsys.readouterr().err
    assert main(["init-db", "--partitions", "--retain", "30d"]) == 2
    shown = capsys.readouterr().err
    assert "rebuilds the table" in shown
    assert "add --yes" in shown
    assert (ages(place), partitions(place)) == ([0, 5, 10, 40], [None])
    assert main(["init-db", "--partitions", "--retain", "30d", "--check"]) == 5
    assert "wants --yes: The server rebuilds the table" in capsys.readouterr().out
    assert main(["init-db", "--partitions", "--retain", "30d", "--yes"]) == 0
    assert ages(place) == [0, 5, 10]
    assert main(["init-db", "--retain", "7d"]) == 0
    assert ages(place) == [0, 5]


def test_rows_without_a_time_worth_the_name(place: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that says 1970 is older than anything, one that says 2099 is never old enough."""
    write(place, aged(3))
    maintain(place)
    write(
        place,
        [one._replace(ts=f"{year}-01-01 00:00:00.000000") for one, year in zip(readings(2), (1970, 2099), strict=True)],
    )
    done = maintain(place, 2)
    assert done.rows_beyond == 1
    assert [row[0].year for row in query(place, "SELECT ts FROM sensor_readings")] == [2099]
    # missing_ts: epoch puts new readings there: nobody loses them without having agreed.
    monkeypatch.setenv("SENSORSYNC_READING__MISSING_TS", "epoch")
    assert main(["init-db", "--retain", "2d"]) == 2
    assert main(["init-db", "--retain", "2d", "--yes"]) == 0


def test_rows_that_wait_in_the_last_partition_get_to_those_of_their_days(
    place: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    query(
        place,
        "ALTER TABLE sensor_readings PARTITION BY RANGE COLUMNS (ts)"
        " (PARTITION old VALUES LESS THAN ('2020-01-01'), PARTITION rest VALUES LESS THAN (MAXVALUE))",
    )
    write(place, aged(0, 1, 50))
    monkeypatch.setattr(partition_maintenance, "_CHEAP_ROWS", 2)
    assert main(["init-db", "--partitions"]) == 2, "not so many without having asked"
    done = maintain(place, 30)
    assert done.dropped[0].name == "old"
    assert done.rows_beyond == 0
    assert ages(place) == [0, 1]
    assert maintain(place, 30).statements == ()


@pytest.mark.parametrize(
    "how",
    [
        "RANGE (TO_DAYS(ts)) (PARTITION p0 VALUES LESS THAN (800000), PARTITION p1 VALUES LESS THAN MAXVALUE)",
        "KEY (device_id) PARTITIONS 2",
        "RANGE COLUMNS (ts) SUBPARTITION BY KEY (device_id) SUBPARTITIONS 2 (PARTITION p VALUES LESS THAN (MAXVALUE))",
    ],
)
def test_partitions_of_another_kind_are_left_alone(
    place: Database, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    query(place, f"ALTER TABLE sensor_readings PARTITION BY {how}")
    there = partitions(place)
    assert main(["init-db", "--partitions"]) == 2
    assert "RANGE COLUMNS (ts) only" in capsys.readouterr().err
    assert partitions(place) == there


# -- in use, twice, killed ---------------------------------------------------------------------------------------------


@contextmanager
def in_use(place: Database) -> Iterator[None]:
    """A transaction that has read the table and does not end."""
    with place.connect() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT COUNT(*) FROM sensor_readings")
        yield


def test_days_come_and_go_while_others_write_and_no_write_fails(place: Database) -> None:
    write(place, aged(*range(1, 8)))
    maintain(place)
    stop = threading.Event()
    written: list[int] = []

    def writer(number: int) -> int:
        batches = 0
        with closing(MySqlStore(place.settings())) as store, closing(store.create_sink(number)) as sink:
            while not stop.is_set():
                batch = [
                    one._replace(device_id=f"w{number}-{batches}") for one in aged(*(0.001 * n for n in range(50)))
                ]
                assert sink.write(batch) == 50
                batches += 1
                written.append(50)
            return batches

    def wrote_on(before: int) -> bool:
        return len(written) > before + 5 or any(one.done() for one in writers)

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(writer, number) for number in range(2)]
        try:
            for retain in (6, 4, 2):
                last = partitions(place)[-2]
                before = len(written)
                query(place, f"ALTER TABLE sensor_readings DROP PARTITION {last}")  # so that it is to be added again
                done = maintain(place, retain)
                assert done.added == (last,)
                assert done.dropped
                eventually(partial(wrote_on, before), "writes")
        finally:
            stop.set()
        batches = sum(one.result() for one in writers)
    assert query(place, "SELECT COUNT(*) FROM sensor_readings WHERE device_id LIKE 'w%'") == [(50 * batches,)]


def waits(place: Database) -> bool:
    """Whether an ALTER waits for its lock."""
    return "metadata lock" in str(query(place, "SHOW FULL PROCESSLIST"))


def test_a_table_in_use_is_waited_for_and_in_between_others_write(
    place: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    maintain(place)
    last = partitions(place)[-2]
    query(place, f"ALTER TABLE sensor_readings DROP PARTITION {last}")
    monkeypatch.setattr(partition_maintenance, "_RETRY_DELAYS", (0.05,) * 200)
    caplog.set_level("INFO")
    with ThreadPoolExecutor(1) as pool:
        with in_use(place):
            waiting = pool.submit(maintain, place)
            eventually(lambda: waits(place), "an ALTER that waits")
            write(place, aged(0))  # no longer than the ALTER waits: less than the writer has patience for
            eventually(lambda: any(getattr(one, "event", "") == "partitions_wait" for one in caplog.records), "a pause")
        assert waiting.result().added == (last,)


def test_a_table_that_stays_in_use_ends_with_4_and_a_hint(
    place: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(partition_maintenance, "_RETRY_DELAYS", ())
    with in_use(place):
        assert main(["init-db", "--partitions"]) == 4
    shown = capsys.readouterr().err
    assert "is in use by a transaction" in shown
    assert "PROCESSLIST" in shown
    assert main(["init-db", "--partitions"]) == 0


def test_two_at_once_make_the_same_partitions_once(place: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    write(place, aged(0, 10))
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: maintain(place, 5), range(2))
    assert sorted([len(one.statements), len(other.statements)]) == [0, 2]
    assert ages(place) == [0]
    monkeypatch.setattr(schema, "_LOCK_SECONDS", 0)
    with closing(MySqlStore(place.settings("owner"))), place.connect() as connection, connection.cursor() as cursor:
        with schema.migration_lock(cursor, place.name, "here"), pytest.raises(AlreadyRunningError):
            maintain(place)
        assert main(["init-db", "--partitions"]) == 0


def test_killed_between_two_steps_the_next_run_does_the_rest(place: Database) -> None:
    write(place, aged(0, 10))
    first, _ = maintain(place, 5, dry_run=True).statements
    query(place, first)
    done = maintain(place, 5)
    assert (done.added, len(done.dropped)) == ((), 1)
    assert ages(place) == [0]


def test_killed_in_the_middle_of_a_step_the_next_run_does_the_rest(place: Database, tmp_path: Path) -> None:
    write(place, aged(0, 10))
    commands = Commands({**os.environ, **place.environment("owner")})
    words = ("init-db", "--partitions", "--retain", "5d", "--yes")
    with in_use(place), commands.start(tmp_path / "log", *words) as process:
        eventually(lambda: waits(place), "an ALTER that waits")
        process.kill()
    maintain(place, 5)
    assert ages(place) == [0]
    assert maintain(place, 5).statements == ()
