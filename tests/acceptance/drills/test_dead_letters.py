"""Drills on the dead-letter box: what it cannot take stays unacknowledged, until it can."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.drills.disk import CrampedDatabase, SmallDisk
from tests.acceptance.drills.harness import SENSORSYNC, Drill

pytestmark = [pytest.mark.acceptance, pytest.mark.broker, pytest.mark.database, pytest.mark.timeout(360)]


def small_disk(folder: Path, megabytes: int) -> SmallDisk:
    """Or skip the test where that is not allowed."""
    try:
        return SmallDisk(folder, megabytes * 2**20)
    except OSError as error:
        pytest.skip(str(error))


def test_a_full_disk_under_the_dead_letter_box_keeps_the_batches_until_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 32) as disk:
        box = {"SENSORSYNC_DEAD_LETTERS__PATH": str(disk.folder / "box.sqlite")}
        with Drill(tmp_path, environment=box, program=(*disk.enter, *SENSORSYNC)) as drill:
            poison = drill.poison(every=100)
            with drill.load() as load:
                load.reaches(1_500)
                disk.fill()
                load.says("kept", times=4)
                disk.make_room()
                stopped = load.finishes(parked=poison)
            assert stopped["parked"] == poison
            drill.audit(parked=poison)


@pytest.mark.long
def test_a_dead_letter_box_locked_by_another_process_keeps_the_batches_until_it_is_free(drill: Drill) -> None:
    poison = drill.poison(every=100)
    with drill.load() as load:
        load.reaches(1_500)
        with closing(sqlite3.connect(drill.dead_letters, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            load.says("kept")
            other.execute("ROLLBACK")
        stopped = load.finishes(parked=poison)
    assert stopped["parked"] == poison
    drill.audit(parked=poison)


@pytest.mark.long
def test_a_full_disk_under_the_database_keeps_the_batches_until_there_is_room(tmp_path: Path) -> None:
    # More messages than fit into what the server has set aside for the table.
    with (
        small_disk(tmp_path / "disk", 512) as disk,
        Drill(tmp_path, database=CrampedDatabase(disk), messages=15_000) as drill,
    ):
        with drill.load() as load:
            load.reaches(1_500)
            disk.fill()
            load.says("kept", times=4)
            disk.make_room()
            if not drill.database.running:  # MariaDB may abort
                drill.database.start()
            load.finishes()
        drill.audit()
