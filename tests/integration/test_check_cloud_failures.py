"""`check-cloud` names the right cause, each time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sensorsync.commands import check_cloud
from sensorsync.config import Settings
from tests.broken_brokers import WAYS, Place, Way
from tests.conftest import Certificates

pytestmark = pytest.mark.broker


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_the_first_failing_step_names_the_cause_and_the_fix(
    way: Way, certificates: Certificates, tmp_path: Path
) -> None:
    with way.set_up(Place(tmp_path, certificates)) as mqtt:
        settings = Settings.model_validate({"mqtt": mqtt})

        result = asyncio.run(check_cloud.run(settings, check_cloud.CheckOptions(probes=5)))

    steps = {step["step"]: step for step in result.data["steps"]}
    failed = next((step for step in result.data["steps"] if step["failure"]), None)
    assert failed is not None, result.data
    told = f"{failed['failure']['message']} {failed['failure']['hint']}"
    assert (failed["step"], failed["failure"]["key"]) == (way.step, way.key), told
    assert [word for word in way.words if word not in told] == [], told
    assert int(result.exit_code) == way.exit_code
    assert result.data["ready"] is False
    assert steps[way.step]["status"] == "failed"
    problem = result.problems[0]
    assert problem.code == way.key
    assert failed["failure"]["message"] in problem.message
    assert problem.hint == failed["failure"]["hint"]


def test_there_are_at_least_fifteen_ways_to_fail() -> None:
    assert len({way.key for way in WAYS}) >= 15
