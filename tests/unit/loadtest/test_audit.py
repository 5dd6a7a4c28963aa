"""An audit reads rows and letters; waiting for rows ends when they are there or none come any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from sensorsync.config import Settings
from sensorsync.deadletters import DeadLetters
from sensorsync.loadtest import GeneratedMessages, Run
from sensorsync.loadtest.audit import audit, audit_problem, wait_for_rows
from sensorsync.messages.envelope import Key, Signer
from sensorsync.messages.reading import Reading, ReadingDecoder
from sensorsync.pipeline.contract import DeadLetter
from sensorsync.storage.store import Store, StoredRow

RUN = Run("r1", 10, 2)


class FakeStore:
    """The part of a Store that an audit uses."""

    def __init__(self, *counts: int, rows: list[StoredRow] | None = None) -> None:
        self._counts = list(counts)
        self._rows = rows or []

    def rows_of_run(self, run: str) -> Iterator[StoredRow]:
        assert run == RUN.id
        return iter(self._rows)

    def count_run_rows(self, run: str) -> int:
        assert run == RUN.id
        return self._counts.pop(0) if len(self._counts) > 1 else self._counts[0]


def payloads() -> list[bytes]:
    return [
        payload
        for client in range(RUN.clients)
        for payload in GeneratedMessages(RUN, client).take(100, time.time()).payloads
    ]


def row(payload: bytes) -> StoredRow:
    found = ReadingDecoder().decode(payload, "t", 0.0)
    assert isinstance(found, Reading)
    return StoredRow(found.device_id, found.event_id, found.metric, found.ts, found.value, found.payload)


def settings(folder: Path) -> Settings:
    return Settings.model_validate({"dead_letters": {"path": str(folder / "box.sqlite")}})


def test_letters_of_the_run_in_the_local_box_are_parked_and_not_missing(tmp_path: Path) -> None:
    first, second, third, *rest = payloads()
    signed = Signer(Key("k", b"x" * 32)).sign(second)
    box = DeadLetters(tmp_path / "box.sqlite")
    box.open()
    box.park([DeadLetter("t", raw, 1, None, "signature", None, "m", 1.0) for raw in (first, signed, b"junk", b"a.b.c")])
    box.close()
    store = FakeStore(rows=[row(payload) for payload in rest])
    report = audit(cast(Store, store), settings(tmp_path), RUN.id)
    assert (report.messages_stored, report.parked, report.missing) == (7, 2, 1)
    assert third
    problem = audit_problem(report)
    assert problem.message == "1 of 10 messages of run r1 are missing"
    assert "max_queued_messages" in str(problem.hint)


def test_without_a_box_or_with_a_broken_one_the_rows_are_audited_alone(tmp_path: Path) -> None:
    store = FakeStore(rows=[row(payload) for payload in payloads()])
    assert audit(cast(Store, store), settings(tmp_path), RUN.id).complete
    (tmp_path / "box.sqlite").write_bytes(b"this is no SQLite file" * 100)
    assert audit(cast(Store, store), settings(tmp_path), RUN.id).complete


def test_an_empty_database_is_reported_as_such(tmp_path: Path) -> None:
    report = audit(cast(Store, FakeStore()), settings(tmp_path), RUN.id)
    assert audit_problem(report).message == "no message of run r1 is stored"


def test_waiting_ends_when_all_rows_are_there() -> None:
    seen: list[int] = []
    store = cast(Store, FakeStore(3, 7, 10))
    assert asyncio.run(wait_for_rows(store, RUN.id, 10, seen.append)) == 10
    assert seen == [3, 7, 10]


def test_waiting_ends_when_nothing_comes_any_more_and_not_while_something_does() -> None:
    seen: list[int] = []
    store = cast(Store, FakeStore(1, 2, 3, 4))
    assert asyncio.run(wait_for_rows(store, RUN.id, 10, seen.append, stall_seconds=0.4)) == 4
    assert seen[:4] == [1, 2, 3, 4]
