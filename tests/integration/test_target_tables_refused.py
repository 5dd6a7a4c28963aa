"""A mapping onto a table that lacks its key: refused at the start, with the statement to run, on every database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sensorsync.cli import main
from sensorsync.config import DatabaseSettings
from tests.conftest import Database
from tests.contract.conftest import File, Place
from tests.target_tables import Ground

CONFIG = """
security: {signatures: "off"}
mqtt: {topics: "plant/+/state"}
mappings:
  - name: states
    topic: plant/{machine}/state
    table:
      name: machine_state
      key: [machine, at]
      conflict: last
      columns:
        machine: {topic: "{machine}"}
        at: {path: ts, type: time}
        celsius: {path: t, type: number}
"""
KEYLESS = {
    "mysql": "CREATE TABLE machine_state (id INT AUTO_INCREMENT PRIMARY KEY, machine VARCHAR(64) NOT NULL, at DATETIME(6) NOT NULL,"
    " celsius DOUBLE)",
    "sqlite": "CREATE TABLE machine_state (id INTEGER PRIMARY KEY, machine TEXT, at TEXT, celsius REAL)",
}
MENDS = {
    "mysql": "ALTER TABLE `machine_state` ADD UNIQUE KEY `sensorsync_identity` (`machine`,`at`)",
    "sqlite": 'CREATE UNIQUE INDEX "machine_state_sensorsync_identity" ON "machine_state" ("machine","at")',
}


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.database)])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "sqlite":
        monkeypatch.setenv("SENSORSYNC_DATABASE__DRIVER", "sqlite")
        monkeypatch.setenv("SENSORSYNC_DATABASE__PATH", str(tmp_path / "readings.sqlite"))
        return File(tmp_path / "readings.sqlite")
    database: Database = request.getfixturevalue("database")
    return database


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "sensorsync.yaml"
    path.write_text(CONFIG)
    return str(path)


def use(place: Place, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(place, Database):
        for name, value in place.environment(role).items():
            monkeypatch.setenv(name, value)


def test_a_table_without_the_key_of_its_mapping_is_refused_with_the_statement_that_adds_it(
    place: Place, config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given
    settings: DatabaseSettings = place.settings()
    driver = settings.driver
    ground = Ground(place)
    ground.run(KEYLESS[driver])
    allow(ground, config, place, monkeypatch, capsys)
    # When
    use(place, "subscriber", monkeypatch)
    code = main(["--config", config, "subscribe"])
    said = capsys.readouterr().err
    # Then
    assert code == 4
    assert f"machine_state has no unique key of exactly the columns (machine, at): run {MENDS[driver]}" in " ".join(
        said.split()
    )

    # When
    use(place, "owner", monkeypatch)
    code = main(["--config", config, "init-db", "--check", "--json"])
    checked = json.loads(capsys.readouterr().out)
    # Then
    assert code == 5
    (difference,) = checked["data"]["differences"]
    assert difference.endswith(f": run {MENDS[driver]}")

    # When: init-db leaves the table as it is.
    assert main(["--config", config, "init-db", "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["data"]["differences"] == [difference]
    # Then
    ground.run(MENDS[driver])
    assert main(["--config", config, "init-db", "--check"]) == 0


def allow(
    ground: Ground, config: str, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run what `init-db --grants` prints with this configuration."""
    if not isinstance(place, Database):
        return
    use(place, "subscriber", monkeypatch)
    assert main(["--config", config, "init-db", "--grants", "--json"]) == 0
    for account in json.loads(capsys.readouterr().out)["data"]["accounts"]:
        assert any("machine_state" in line for line in account["statements"]) == (account["role"] != "tuner")
        ground.run(*(line.replace(account["password"], f"'{place.password}'") for line in account["statements"]))
