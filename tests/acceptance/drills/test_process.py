"""Drills on the subscriber itself: it is asked to end, killed, loses a thread, and the clock jumps."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.acceptance.drills.harness import MESSAGES, SENSORSYNC, Drill
from tests.conftest import not_installed

pytestmark = [pytest.mark.acceptance, pytest.mark.broker, pytest.mark.database, pytest.mark.timeout(120)]

SABOTAGE = (sys.executable, str(Path(__file__).with_name("sabotage.py")))


def test_sigkill_under_load_loses_nothing(drill: Drill) -> None:
    with drill.load() as load:
        load.reaches(1_500)
        load.subscriber.kill()
        load.start()
        load.finishes()
    drill.audit()


def test_sigterm_under_load_stores_and_acknowledges_what_was_taken_over(drill: Drill) -> None:
    with drill.load() as load:
        load.reaches(1_500)
        assert load.stops()["unacknowledged"] == 0
        load.start()
        assert load.finishes()["redelivered"] == 0, "a soft stop leaves nothing to be sent twice"
    drill.audit()


def test_sigterm_while_the_database_is_away_ends_at_the_deadline_and_acknowledges_nothing(drill: Drill) -> None:
    with drill.load(SENSORSYNC_PIPELINE__STOP_TIMEOUT="2s") as load:
        load.reaches(1_500)
        drill.database.kill()
        load.says("kept", times=2)
        assert load.stops(exit_code=5)["unacknowledged"] > 0
        drill.database.start()
        load.start()
        load.finishes()
    drill.audit()


def test_a_second_sigint_ends_the_subscriber_at_once_and_loses_nothing(drill: Drill) -> None:
    with drill.load(SENSORSYNC_DATABASE__READ_TIMEOUT="30s", SENSORSYNC_PIPELINE__STOP_TIMEOUT="60s") as load:
        load.reaches(1_500)
        drill.database.freeze()
        load.insists(signal.SIGINT)
        drill.database.thaw()
        load.start()
        load.finishes()
    drill.audit()


def test_a_writer_thread_that_dies_ends_the_process_and_acknowledges_nothing_that_is_not_stored(drill: Drill) -> None:
    with drill.load(program=SABOTAGE) as load:
        load.reaches(1_500)
        load.subscriber.send(signal.SIGUSR1)
        load.ends(1)
        load.start()
        load.finishes()
    drill.audit()


def test_a_clock_that_jumps_back_and_ahead_changes_neither_rows_nor_pace(drill: Drill, tmp_path: Path) -> None:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        not_installed("libfaketime is not installed (Debian: apt-get install libfaketime)")
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    fake = (
        f"LD_PRELOAD={found[0]}",
        f"FAKETIME_TIMESTAMP_FILE={clock}",
        "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
    )
    with drill.load(program=("env", *fake, *SENSORSYNC)) as load:
        for rows, offset in ((500, "-1h"), (2_000, "+1d")):
            load.reaches(rows)
            clock.write_text(f"{offset}\n")
        load.finishes()
    drill.audit()
    arrivals = "SELECT TIMESTAMPDIFF(HOUR, MIN(received_at), MAX(received_at)), COUNT(*) FROM sensor_readings"
    assert drill.sql(arrivals) == ((25, MESSAGES),), "the subscriber saw both jumps"
