"""What a new user does first: one command on a machine with only Python and pip."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.sh"

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]


def _quickstart(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(QUICKSTART), *arguments],
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_messages_arrive_and_the_recording_is_queried_back_month_by_month(tmp_path: Path) -> None:
    done = _quickstart(tmp_path, "--messages", "5000", "--json")  # installs
    assert done.returncode == 0, done.stderr
    envelope = json.loads(done.stdout)
    data = envelope["data"]
    assert (envelope["ok"], envelope["exit_code"]) == (True, 0)
    assert (data["published"], data["acked"], data["stored"]) == (5000, 5000, 5000)
    assert (data["missing"], data["parked"]) == (0, 0)
    assert isinstance(data["redelivered"], int)

    done = _quickstart(tmp_path, "--messages", "1000")
    assert "installing" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert "17,409 readings published, 17,409 acknowledged, 17,409 stored" in done.stdout
    assert "  2013-07        744    26.0    17.8    36.7" in done.stdout
