"""Drills on the subscriber itself: it is asked to end, loses a thread, and the clock jumps. See also `test_promise`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.acceptance.drills.harness import MESSAGES, SENSORSYNC, Drill
from tests.conftest import not_installed

pytestmark = [pytest.mark.acceptance, pytest.mark.broker, pytest.mark.database, pytest.mark.timeout(360)]

SABOTAGE = (sys.executable, str(Path(__file__).with_name("sabotage.py")))


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
        load.goes_on(500)  # else there may be nothing in hand, and the first one ends it softly
        load.insists(signal.SIGINT)
        drill.database.thaw()
        load.start()
        load.finishes()
    drill.audit()


def test_a_writer_thread_that_dies_ends_the_process_and_acknowledges_nothing_that_is_not_stored(drill: Drill) -> None:
    with drill.load(program=SABOTAGE, SENSORSYNC_PIPELINE__STOP_TIMEOUT="2s") as load:
        load.reaches(1_500)
        load.subscriber.send(signal.SIGUSR1)
        load.ends(1)
        load.start()
        load.finishes()
    drill.audit()


@pytest.mark.long
@pytest.mark.parametrize(("jump", "hours"), [("-1h", -1), ("+1d", 24)])
def test_a_clock_that_jumps_changes_neither_rows_nor_pace(drill: Drill, tmp_path: Path, jump: str, hours: int) -> None:
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
        load.reaches(1_500)
        clock.write_text(f"{jump}\n")
        load.finishes()
    drill.audit()
    # What arrived after the jump bears the new time: the subscriber has seen it.
    late = "SELECT COUNT(*) FROM sensor_readings WHERE ABS(TIMESTAMPDIFF(SECOND, ts, received_at) - {} * 3600) < 120"
    assert drill.sql(late.format(hours))[0][0] > MESSAGES // 3
