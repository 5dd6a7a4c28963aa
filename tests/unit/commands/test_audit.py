"""`sensorsync audit --clean`: it deletes the rows that the report has read, or nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from sensorsync.commands import audit
from sensorsync.config import Settings
from sensorsync.errors import ExitCode
from sensorsync.loadtest import GeneratedMessages, Run
from sensorsync.messages.reading import Reading, ReadingDecoder
from sensorsync.storage.open import open_store
from sensorsync.storage.sqlite.store import SqliteStore
from sensorsync.storage.store import StoredRow

RUN = Run("r1", 40, 2)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a database that has all rows of RUN."""
    database = {"driver": "sqlite", "path": str(tmp_path / "readings.sqlite")}
    settings = Settings.model_validate({"database": database, "state_dir": str(tmp_path)})
    messages = [
        payload
        for client in range(RUN.clients)
        for payload in GeneratedMessages(RUN, client).take(100, time.time()).payloads
    ]
    readings = [found for one in messages if isinstance(found := ReadingDecoder().decode(one, "t", 0.0), Reading)]
    with closing(open_store(settings.database)) as store:
        store.migrate()
        assert store.create_sink(0).write(readings) == RUN.messages
    return settings


def stored(settings: Settings) -> int:
    with closing(open_store(settings.database)) as store:
        return store.count_run_rows(RUN.id)


@pytest.mark.parametrize("read", [0, 1, 39])
def test_nothing_is_deleted_when_the_report_has_read_other_rows_than_there_are(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, read: int
) -> None:
    # A proxy sends reads to a replica that has not caught up, and the DELETE to the primary server.
    rows_of_run = SqliteStore.rows_of_run

    def rows_of_replica(store: SqliteStore, run: str) -> Iterator[StoredRow]:
        return islice(rows_of_run(store, run), read)

    with monkeypatch.context() as lagging:
        lagging.setattr(SqliteStore, "rows_of_run", rows_of_replica)
        result = audit.run(settings, RUN.id, clean=True)
    assert (result.exit_code, result.data["deleted"], stored(settings)) == (ExitCode.INCOMPLETE, 0, RUN.messages)
    problem = result.problems[-1]
    assert "nothing was deleted" in problem.message
    assert "looks like a replica" in problem.message
    assert f"audit {RUN.id} --clean" in (problem.hint or "")
    # Afterwards: once it has caught up, the next step that was named works.
    result = audit.run(settings, RUN.id, clean=True)
    assert (result.exit_code, result.data["deleted"], stored(settings)) == (ExitCode.OK, RUN.messages, 0)


def test_nothing_is_deleted_when_rows_of_the_run_arrive_after_the_report(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = SqliteStore.delete_run_rows
    late = Reading(*(ReadingDecoder().decode(GeneratedMessages(RUN, 0).take(1, 0.0).payloads[0], "t", 0.0)))

    def delete_late(store: SqliteStore, run: str, expected: int) -> int:
        store.create_sink(0).write([late._replace(event_id=b"x" * 16)])
        return delete(store, run, expected)

    monkeypatch.setattr(SqliteStore, "delete_run_rows", delete_late)
    result = audit.run(settings, RUN.id, clean=True)
    assert (result.exit_code, result.data["deleted"], stored(settings)) == (ExitCode.INCOMPLETE, 0, RUN.messages + 1)
