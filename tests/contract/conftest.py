"""The databases that every sink's promises are tested on: a SQLite file, and a real MariaDB or MySQL server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from sensorsync.config import DatabaseSettings
from sensorsync.storage import sqlite_file
from sensorsync.storage.open import open_store
from tests.conftest import Database


class Place(Protocol):
    """Where a database is: a tests.conftest.Database, or a file."""

    def settings(self, role: str = "subscriber", **changes: Any) -> DatabaseSettings: ...

    def allow(self, *roles: str) -> None: ...

    def prepare(self) -> None: ...


@dataclass(frozen=True)
class File:
    """A file, of which everybody is the owner."""

    path: Path

    def settings(self, role: str = "subscriber", **changes: Any) -> DatabaseSettings:
        return DatabaseSettings(driver="sqlite", path=self.path, **changes)

    def allow(self, *roles: str) -> None:
        pass

    def prepare(self) -> None:
        open_store(self.settings()).migrate()


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.database)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return File(tmp_path / "readings.sqlite")
    database: Database = request.getfixturevalue("database")
    return database


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for SQLite's lock stands in no queue: with a slow disk the last of four waits for all that the others write."""
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 45.0)
