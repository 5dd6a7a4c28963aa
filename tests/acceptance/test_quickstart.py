"""What a new user does first: one command on a machine with only Python and pip."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.sh"

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty cache folder, which the first test fills."""
    return tmp_path_factory.mktemp("cache")


def _quickstart(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(QUICKSTART), *arguments],
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_with_json_stdout_is_one_envelope_that_says_all_arrived(cache: Path) -> None:
    done = _quickstart(cache, "--messages", "5000", "--json")
    assert done.returncode == 0, done.stderr
    envelope = json.loads(done.stdout)
    data = envelope["data"]
    assert (envelope["ok"], envelope["exit_code"]) == (True, 0)
    assert (data["published"], data["acked"], data["stored"]) == (5000, 5000, 5000)
    assert (data["missing"], data["parked"]) == (0, 0)
    assert isinstance(data["redelivered"], int)


def test_the_recording_is_queried_back_month_by_month(cache: Path) -> None:
    done = _quickstart(cache, "--messages", "1000")
    assert done.returncode == 0, done.stderr
    assert "17,409 readings published, 17,409 acknowledged, 17,409 stored" in done.stdout
    assert "  2013-07        744    26.0    17.8    36.7" in done.stdout
