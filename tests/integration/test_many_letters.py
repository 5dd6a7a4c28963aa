"""A box with very many letters: looking into it stays quick, and all of them can be replayed."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sensorsync.deadletters import DeadLetters
from tests.acceptance.test_promise import stored
from tests.acceptance.test_replay import commands_for
from tests.conftest import Database
from tests.letters import good, junk, left

MANY = pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.timeout(900)], id="a million")
FEW = pytest.param(20_000, id="20,000")
CHUNK = 1000


@pytest.fixture(scope="module", params=[FEW, MANY])
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DeadLetters, int]]:
    """A box open for reading, and how many letters are in it; one in a hundred is junk."""
    total: int = request.param
    box = DeadLetters(tmp_path_factory.mktemp("many") / "box.sqlite", max_size=2**33)
    box.open()
    for start in range(0, total, CHUNK):
        box.park([good(n) if n % 100 else junk(n) for n in range(start, start + CHUNK)])
    box.close()
    assert box.open_read_only()
    yield box, total
    box.close()
    box.path.unlink()


@pytest.mark.parametrize(
    ("flags", "share"),
    [
        ("", 1.0),
        ("--reason json", 0.01),
        ("--device device-7 --errno 7", 0.0),
        ("--topic t/#", 1.0),
        ("--topic +/7", 0.1),
        ("--topic +/+ --state parked --since 2026-01-02 --until 2027-01-01", 1.0),
    ],
)
def test_inspect_answers_in_under_a_second_from_its_start_to_its_end(
    full: tuple[DeadLetters, int], flags: str, share: float, tmp_path: Path
) -> None:
    box, total = full
    command = [sys.executable, "-m", "sensorsync", "dlq", "inspect", "--json", *flags.split()]
    environment = {**os.environ, "SENSORSYNC_DEAD_LETTERS__PATH": str(box.path)}

    def inspect() -> float:
        with (tmp_path / "out").open("wb") as out:
            process = os.posix_spawn(
                sys.executable, command, environment, file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)]
            )
        _, status, usage = os.wait4(process, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        return usage.ru_utime + usage.ru_stime

    # Of its processor time, the least of three: what other programs do is not measured.
    assert min(inspect() for _ in range(3 if total > 100_000 else 1)) < 1.0
    data = json.loads((tmp_path / "out").read_text())["data"]
    assert data["total"] == pytest.approx(share * total, rel=0.02)
    assert len(data["letters"]) == min(20, data["total"])


def test_a_letter_takes_not_much_more_than_what_is_in_it(full: tuple[DeadLetters, int]) -> None:
    box, total = full
    with closing(sqlite3.connect(box.path)) as connection:
        (content,) = connection.execute(
            "SELECT sum(length(payload) + length(topic) + length(message)) FROM letters"
        ).fetchone()
    assert box.path.stat().st_size < content + 350 * total


def test_all_of_them_are_replayed(full: tuple[DeadLetters, int], database: Database, tmp_path: Path) -> None:
    box, total = full
    path = tmp_path / "box.sqlite"
    shutil.copy(box.path, path)
    commands = commands_for(database, tmp_path / "state", SENSORSYNC_DEAD_LETTERS__PATH=str(path))
    database.prepare()
    data = commands.run("dlq", "replay", "--json", check=False, timeout=600).data
    assert (data["due"], data["stored"], data["refused"], data["left"]) == (total, total * 99 // 100, total // 100, 0)
    assert (left(path), stored(database)) == (total // 100, total * 99 // 100)
    assert path.stat().st_size < box.path.stat().st_size // 20
