"""Each recipe of examples/mappings: from its sample messages to the rows that people reasoned out, on every database."""

from __future__ import annotations

import io
import json
import re
import shlex
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sensorsync.commands import map as map_command
from sensorsync.commands.map_samples import Sample, read_samples
from sensorsync.config import DatabaseSettings, Settings, load
from sensorsync.config.reference.keys import nested_models
from sensorsync.config.sections.mappings import MappingSettings
from sensorsync.errors import ExitCode
from sensorsync.messages.reading import TableRow
from sensorsync.messages.topics import filter_matches
from sensorsync.pipeline.contract import Delivery, FanOut, Reading, Rejected, Row
from sensorsync.storage.open import open_store
from sensorsync.wiring import message_decoder
from tests.commands import Commands
from tests.services import DatabaseServer

FOLDER = Path(__file__).parents[2] / "examples/mappings"
DOCS = Path(__file__).parents[2] / "docs"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
OWN = "own-table"
BY_ARRIVAL = {"esphome", "home-assistant", "shelly-gen2-status"}
"""Recipes of messages without a time: delivered twice they are stored twice, and say so."""


@dataclass(frozen=True)
class Place:
    """One database for all recipes."""

    settings: DatabaseSettings
    run: Callable[[str], list[dict[str, Any]]]
    """Runs a statement with all rights; the rows of its result."""


@pytest.fixture(scope="module")
def sqlite_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    file = tmp_path_factory.mktemp("recipes") / "readings.sqlite"

    def run(statement: str) -> list[dict[str, Any]]:
        connection = sqlite3.connect(file, isolation_level=None)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(statement)]
        finally:
            connection.close()

    place = Place(DatabaseSettings(driver="sqlite", path=file), run)
    open_store(place.settings).migrate()
    run(_target_table_of_sqlite())
    return place


@pytest.fixture(scope="module")
def mysql_place(database_server: DatabaseServer) -> Iterator[Place]:
    name = f"recipes_{uuid.uuid4().hex[:12]}"

    def run(statement: str) -> list[dict[str, Any]]:
        with database_server.connect(database=name) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    with database_server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}`")
    place = Place(database_server.settings(name=name, user="root", password=""), run)
    open_store(place.settings).migrate()
    run(_target_table())
    yield place
    run(f"DROP DATABASE `{name}`")


@pytest.fixture(params=["sqlite_place", pytest.param("mysql_place", marks=pytest.mark.database)])
def place(request: pytest.FixtureRequest) -> Place:
    """Its tables are empty."""
    found: Place = request.getfixturevalue(request.param)
    found.run("DELETE FROM sensor_readings")
    found.run("DELETE FROM machine_state")
    return found


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != OWN])
def test_the_samples_of_a_recipe_become_the_rows_that_are_expected(place: Place, recipe: str) -> None:
    assert _store(place, recipe) == len(_expected(recipe))
    rows = place.run("SELECT device_id, metric, ts, value, value_text, unit FROM sensor_readings")
    assert sorted(map(_read, rows), key=_order) == sorted(_expected(recipe), key=_order)


def test_the_rows_of_a_target_table_are_those_that_are_expected(place: Place) -> None:
    expected = _expected(OWN)
    assert _store(place, OWN) == len(expected)
    stored = place.run(f"SELECT {', '.join(expected[0])} FROM machine_state ORDER BY line, machine")
    rows = [{**row, **{name: _time(row[name]) for name in ("measured_at", "stored_at")}} for row in stored]
    jobs = [row.pop("job") for row in rows]
    assert [None if job is None else json.loads(job) for job in jobs] == [row.pop("job") for row in expected]
    temperatures = [row.pop("temperature") for row in rows]
    assert temperatures == pytest.approx([row.pop("temperature") for row in expected])
    assert rows == expected


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_message_that_is_delivered_twice_is_one_row_unless_the_recipe_says_otherwise(
    place: Place, recipe: str
) -> None:
    new = _store(place, recipe)
    assert _store(place, recipe, later=60.0) == (new if recipe in BY_ARRIVAL else 0)
    says = "delivered twice is two rows" in (FOLDER / f"{recipe}.yaml").read_text(encoding="utf-8")
    assert says == (recipe in BY_ARRIVAL)


@pytest.mark.parametrize("recipe", RECIPES)
def test_map_shows_that_no_sample_of_a_recipe_is_parked(recipe: str) -> None:
    result = map_command.map_file(_settings(recipe), FOLDER / f"samples/{recipe}.jsonl", io.BytesIO())
    assert [message["rejected"] for message in result.data["messages"] if message["rejected"]] == []
    assert result.exit_code == ExitCode.OK
    assert {message["mapping"] for message in result.data["messages"]} == {
        one.name for one in _settings(recipe).mappings
    }
    # Samples that come late replace earlier ones in the own table, so there are more of them than rows.
    assert result.data["rows"] >= len(_expected(recipe))


def test_the_command_line_of_the_readme_works() -> None:
    (line,) = re.findall(r"^sensorsync (.*)$", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert Commands({}).run(*shlex.split(line.replace("examples/mappings", str(FOLDER)))).exit_code == 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_subscribes_to_all_of_its_samples_and_begins_with_what_it_is(recipe: str) -> None:
    topics = _settings(recipe).mqtt.topics
    assert [
        one.topic for one in _deliveries(recipe) if not any(filter_matches(topic, one.topic) for topic in topics)
    ] == []
    text = (FOLDER / f"{recipe}.yaml").read_text(encoding="utf-8")
    head = text.partition("\n\n")[0]
    assert all(word in head for word in ("# Rows: ", "# Identity: ", "# Can get wrong:"))


def test_the_readme_has_every_recipe() -> None:
    linked = re.findall(r"\]\(([\w-]+)\.yaml\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert sorted(linked) == RECIPES


def test_the_guide_to_mappings_does_what_it_says(tmp_path: Path) -> None:
    page = (DOCS / "how-to/map-any-payload.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    samples = [one.delivery for one in read_samples(io.BytesIO(lines.encode())) if isinstance(one, Sample)]
    values = []
    for text in re.findall(r"```yaml\n(mappings:.*?)```", page, re.DOTALL):
        decode = message_decoder(_loaded(text, tmp_path))
        rows = [row for one in samples for row in _rows(decode(one)) if isinstance(row, Reading)]
        assert {row.device_id for row in rows} == {"north-weather-3"}
        assert {row.ts for row in rows} == {"2026-03-01 06:15:42.000000", "2026-03-01 06:16:42.000000"}
        values.append([(row.metric, None if row.value is None else round(row.value, 9), row.unit) for row in rows])
    air, soil = "air.temperature", "soil.temperature"
    first = [(air, 21.5, "degC"), ("air.humidity", 41, "%"), (soil, 10, "degC")]
    second = [(air, 21.611111111, "degC"), (soil, 10, "degC")]
    battery = [("battery_ok", 1, None)], [("battery_ok", 0, None)]
    assert values == [battery[0] + battery[1], first + battery[0] + second + battery[1], first + second]


def test_the_guide_to_target_tables_does_what_it_says(tmp_path: Path) -> None:
    page = (DOCS / "how-to/use-your-own-table.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(mappings:.*?)```", page, re.DOTALL)
    (line,) = re.findall(r"^sensorsync map (.*)$", page, re.MULTILINE)
    _, topic, _, payload = shlex.split(line)
    (row,) = _rows(message_decoder(_loaded(text, tmp_path))(Delivery(topic, payload.encode(), 1, 0.0, None)))
    assert isinstance(row, TableRow)
    assert row.values[:3] == ("press-1", "2026-03-01 06:15:42.000000", "running")
    assert row.values[3] == pytest.approx(60)


def test_the_reference_has_every_key_of_a_mapping() -> None:
    text = (DOCS / "reference/mappings.md").read_text(encoding="utf-8")
    keys = {key for model in nested_models(MappingSettings) for key in model.model_fields}
    assert [key for key in keys if not re.search(rf"`(table\.)?{key}`", text)] == []


# -- from the sample to the row ----------------------------------------------------------------------------------------


def _settings(recipe: str) -> Settings:
    return load(FOLDER / f"{recipe}.yaml", {}, {}, FOLDER).settings


def _loaded(text: str, folder: Path) -> Settings:
    file = folder / "sensorsync.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file, {}, {}, folder).settings


def _deliveries(recipe: str) -> list[Delivery]:
    with (FOLDER / f"samples/{recipe}.jsonl").open("rb") as stream:
        samples = list(read_samples(stream))
    return [sample.delivery for sample in samples if isinstance(sample, Sample)]


def _store(place: Place, recipe: str, later: float = 0.0) -> int:
    """Decode all samples, each arriving `later` by so many seconds, and write them; how many rows were new."""
    settings = _settings(recipe)
    decode = message_decoder(settings)
    store = open_store(place.settings, settings.target_tables)
    store.check_schema()
    sink = store.create_sink(0)
    try:
        deliveries = [one._replace(received_at=one.received_at + later) for one in _deliveries(recipe)]
        return sink.write([row for delivery in deliveries for row in _rows(decode(delivery))])
    finally:
        sink.close()
        store.close()


def _rows(decoded: Row | FanOut | Rejected) -> list[Row]:
    parts = decoded.parts if isinstance(decoded, FanOut) else (decoded,)
    rows = [part for part in parts if not isinstance(part, Rejected)]
    assert len(rows) == len(parts), parts
    return rows


def _expected(recipe: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((FOLDER / f"samples/{recipe}.expected.json").read_text(encoding="utf-8"))
    return rows


def _read(row: dict[str, Any]) -> dict[str, Any]:
    """A row of sensor_readings as an expected one."""
    text = row.pop("value_text")
    assert row["value"] is None or text is None
    return {**row, "ts": _time(row["ts"]), "value": row["value"] if text is None else text}


def _time(value: object) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S.%f}" if isinstance(value, datetime) else str(value)


def _order(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["device_id"], row["metric"], row["ts"]


def _target_table() -> str:
    """The statement in the recipe's own words."""
    found = re.search(r"CREATE TABLE .*?;", (FOLDER / f"{OWN}.yaml").read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[0].replace("\n#", "\n").rstrip(";")


def _target_table_of_sqlite() -> str:
    """The same for SQLite, which has another way to count rows, and compares byte for byte anyway."""
    words = {
        "BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY": "INTEGER PRIMARY KEY",
        "UNIQUE KEY machine_time": "UNIQUE",
    }
    statement = _target_table().rpartition(")")[0] + ")"
    for mysql, sqlite in words.items():
        assert mysql in statement
        statement = statement.replace(mysql, sqlite)
    return statement
