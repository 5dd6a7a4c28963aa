"""The promise against its nemesis: short seeds in the suite, many with `--long`, and faults planted to see that it would find them.

A seed that fails is run again by `python -m tests.acceptance.nemesis --seed N --seconds S`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.acceptance.nemesis import sabotage
from tests.acceptance.nemesis.conductor import Conductor, Target
from tests.acceptance.nemesis.plan import ENGINES, Plan, draw, draw_for_planted_faults
from tests.acceptance.nemesis.report import Report
from tests.acceptance.nemesis.sabotage import FAULTS, launcher
from tests.conftest import Database
from tests.services import is_oracle_mysql

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(720)]

SECONDS = 7.0
SEEDS = range(8, 8 + len(ENGINES))[:: -2 if is_oracle_mysql() else 1]
"""One of each engine; against Oracle MySQL two of them."""
LONG_SECONDS = 20.0
LONG_SEEDS = range(1000, 1036)
PLANTED_SECONDS = 45.0
FOUND_BY = {
    "early_ack": {"acked_without_row", "acked_without_letter"},
    "late_ack": {"acked_without_row", "acked_without_letter"},
    "unordered_ack": {"order"},
    "swallowed_error": {"acked_without_row"},
    "unparked_letter": {"acked_without_letter"},
}


def _target(database: Database) -> Target:
    database.prepare()
    name = "mysql" if is_oracle_mysql() else "mariadb"
    return Target(name, database.port, database.environment(), database.connect)


def _run(plan: Plan, database: Database, folder: Path) -> Report:
    report = asyncio.run(Conductor(plan, _target(database), folder).run())
    print(report.json())
    return report


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_every_message_is_stored_or_parked_before_its_ack(
    seed: int, database: Database, tmp_path: Path
) -> None:
    report = _run(draw(seed, SECONDS), database, tmp_path)

    assert report.ok, report.json()
    assert report.acks_judged >= report.good + report.poison > 100


@pytest.mark.long
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_whatever_happens_for_longer_every_message_is_stored_or_parked_before_its_ack(
    seed: int, database: Database, tmp_path: Path
) -> None:
    report = _run(draw(seed, LONG_SECONDS), database, tmp_path)

    assert report.ok, report.json()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_within_a_minute(fault: str, database: Database, tmp_path: Path) -> None:
    plan = draw_for_planted_faults(1, PLANTED_SECONDS, full_box=fault == "unparked_letter")
    conductor = Conductor(plan, _target(database), tmp_path, program=launcher(fault))

    report = asyncio.run(conductor.run(until_violation=True))

    assert report.violation_counts.keys() & FOUND_BY[fault], report.json()
    assert report.seconds < 60


def test_a_planted_fault_whose_place_is_gone_ends_the_program_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sabotage, "SINK", (sabotage.SINK[0], "NoSuchSink"))

    with pytest.raises(SystemExit, match="NoSuchSink does not exist any more"):
        FAULTS["early_ack"]()


def test_a_plan_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert draw(5, 20.0) == draw(5, 20.0)
    assert draw(5, 20.0) != draw(9, 20.0)
