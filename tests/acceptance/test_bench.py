"""The benchmark itself runs; what it measures is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import DatabaseServer, Mosquitto, need

pytestmark = [pytest.mark.acceptance, pytest.mark.long, pytest.mark.timeout(1800)]


def test_every_part_runs_and_writes_its_figures(tmp_path: Path) -> None:
    need(Mosquitto)
    need(DatabaseServer)
    parts = (
        "publish",
        "consume",
        "end-to-end",
        "window",
        "latency",
        "memory",
        "batches",
        "mapping",
        "durability",
        "crypto",
    )
    words = [sys.executable, "-m", "tests.bench", *parts, "--rounds", "1", "--scale", "0.01"]
    done = subprocess.run(
        [*words, "--json", str(tmp_path / "figures.json")], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [part["part"] for part in figures["parts"]] == list(parts)
    assert all(row["rss"] for part in figures["parts"] for row in part["rows"])
