"""What every drill starts with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.drills.harness import Drill
from tests.conftest import need
from tests.services import DatabaseServer, Mosquitto


@pytest.fixture(autouse=True)
def _services() -> None:
    need(Mosquitto)
    need(DatabaseServer)


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    """A private broker that queues without bound and keeps nothing over a restart, and a private database."""
    with Drill(tmp_path) as drill:
        yield drill
