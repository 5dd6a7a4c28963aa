"""A SQLite database with the tables of readings, for the tests of its sink."""

from __future__ import annotations

from pathlib import Path

import pytest

from sensorsync.storage.sqlite.store import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "readings.sqlite"
    SqliteStore(path).migrate()
    return path
