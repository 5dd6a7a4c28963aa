"""The setting `mappings`: the accepted forms, and the errors about each mistake with its place."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from sensorsync.config import LoadedSettings, Settings
from sensorsync.config.reference.keys import key_at, nested_models, setting_keys
from sensorsync.config.sections.mapping_sources import SourceSettings
from sensorsync.config.sections.mapping_specifications import mapping_specs
from sensorsync.config.sections.mappings import EXAMPLE_MAPPINGS
from sensorsync.errors import ConfigurationError
from sensorsync.messages.mapping.model import FormatSpec, MappingSpec, ReadingSpec, Source
from sensorsync.messages.reading import Column, TargetTable
from tests.unit.config.conftest import Load

HEAD = "mappings:\n- name: a\n  topic: home/{room}/+\n"
READING = HEAD + "  device_id: d\n  event_id: e\n  ts: t\n  metric: m\n  value: v\n"
TABLE = HEAD + "  table:\n    name: mine\n    key: [x]\n    columns:\n      x: a\n"
PLAIN = {"name": "a", "topic": "x/#", "device_id": "d", "event_id": "e", "ts": "t", "metric": "m", "value": "v"}


def specs(loaded: LoadedSettings | Settings) -> tuple[MappingSpec, ...]:
    settings = loaded.settings if isinstance(loaded, LoadedSettings) else loaded
    return mapping_specs(settings.mappings, settings.reading)


def spec(**keys: Any) -> MappingSpec:
    return specs(Settings.model_validate({"mappings": [{**PLAIN, **keys}]}))[0]


def refusal(load_with: Load, yaml: str, env: dict[str, str] | None = None) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_with(yaml, env=env)
    return caught.value


# -- what is taken -----------------------------------------------------------------------------------------------------


def test_the_engine_is_built_from_the_file(load_with: Load) -> None:
    loaded = load_with(
        "reading:\n  missing_ts: epoch\n"
        "mappings:\n"
        "- name: lora\n"
        "  topic: application/{app}/device/{dev}/event/up\n"
        "  when: type == 'up'\n"
        "  each: object\n"
        "  where: type(value) == 'number'\n"
        "  device_id: {root: deviceInfo.devEui}\n"
        "  event_id: [{root: deduplicationId}, key]\n"
        "  ts: {root: time, zone: Europe/Berlin}\n"
        "  missing_id: payload\n"
        "  readings:\n"
        "  - {metric: {path: key}, value: {path: value, scale: 0.1}, unit: C, optional: yes}\n"
        "  - metric: power\n"
        "    value: {path: w, values: {on: 1, off: 0}}\n"
        "  keep: nothing\n"
    )
    assert loaded.origins["mappings"].endswith("sensorsync.yaml:3")
    assert specs(loaded) == (
        MappingSpec(
            name="lora",
            topic="application/{app}/device/{dev}/event/up",
            when="type == 'up'",
            each="object",
            where="type(value) == 'number'",
            device_id=Source(root="deviceInfo.devEui"),
            event_id=(Source(root="deduplicationId"), Source(path="key")),
            ts=Source(root="time", zone="Europe/Berlin"),
            missing_ts="epoch",
            missing_id="payload",
            readings=(
                ReadingSpec(Source(path="key"), Source(path="value", scale=0.1), Source(constant="C"), optional=True),
                ReadingSpec(Source(constant="power"), Source(path="w", values={"on": "1", "off": "0"})),
            ),
            keep="nothing",
        ),
    )


def test_a_table_has_columns_of_the_kinds_in_the_mapping(load_with: Load) -> None:
    loaded = load_with(
        HEAD + "  format: csv\n  csv_delimiter: ;\n  csv_columns: a,b,t\n"
        "  event_id: a\n"
        "  table:\n"
        "    name: machine_state\n"
        "    key: room, at\n"
        "    conflict: last\n"
        "    columns:\n"
        "      room: {topic: '{room}'}\n"
        "      at: {path: t, type: time, format: unix_ms}\n"
        "      celsius: {path: a, from_unit: degF, to_unit: degC}\n"
        "      id: {field: event_id}\n"
        "      raw: {field: payload}\n"
    )
    table = TargetTable(
        "machine_state",
        (
            Column("room", "text"),
            Column("at", "time"),
            Column("celsius", "number"),
            Column("id", "id"),
            Column("raw", "json"),
        ),
        ("room", "at"),
        "last",
    )
    assert loaded.settings.target_tables == (table,)
    (found,) = specs(loaded)
    assert found.table == table
    assert found.format == FormatSpec("csv", ";", ("a", "b", "t"))
    assert found.readings == ()
    assert found.columns == (
        Source(topic="{room}"),
        Source(path="t", type="time", format="unix_ms"),
        Source(path="a", from_unit="degF", to_unit="degC"),
        Source(field="event_id"),
        Source(field="payload"),
    )


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("x", None),
        ({"constant": 5}, None),
        ({"constant": 5, "type": "integer"}, "integer"),
        ({"path": "x", "scale": 0.1}, "number"),
        ({"path": "x", "values": {"on": 1}}, "text"),
        ({"path": "x", "values": {"on": 1}, "type": "boolean"}, "boolean"),
        ({"property": "x"}, "text"),
        ({"content_type": True}, "text"),
        ({"field": "topic"}, "text"),
        ({"field": "received_at"}, "time"),
    ],
)
def test_a_column_without_a_type_has_the_kind_of_its_source(source: Any, kind: str | None) -> None:
    table = {"name": "t", "key": ["k"], "columns": {"k": "k", "c": source}}
    settings = Settings.model_validate({"mappings": [{"name": "a", "topic": "a", "table": table}]})
    assert settings.target_tables[0].columns[1] == Column("c", cast(Any, kind))


def test_two_mappings_of_one_table_share_it_in_whatever_order_they_name_its_columns() -> None:
    columns = {"k": {"path": "k", "type": "text"}, "v": {"path": "v", "type": "number"}}
    table = {"name": "t", "key": ["k"], "columns": columns}
    other = {**table, "columns": dict(reversed(columns.items()))}
    mappings = [{"name": "a", "topic": "a", "table": table}, {"name": "b", "topic": "b", "table": other}]
    settings = Settings.model_validate({"mappings": mappings})
    one, two = specs(settings)
    assert one.table is two.table
    assert settings.target_tables == (one.table,)
    assert [source.path for source in two.columns] == ["k", "v"]


@pytest.mark.parametrize(
    ("keys", "single"),
    [({}, True), ({"format": "value"}, True), ({"each": "@"}, False), ({"format": "csv"}, False)],
)
def test_a_metric_and_a_value_directly_in_a_mapping_are_one_reading_of_an_element(
    keys: dict[str, Any], single: bool
) -> None:
    found = spec(**keys)
    assert found.readings == (ReadingSpec(Source(constant="m"), Source(path="v")),)
    assert found.single is single


def test_a_reading_in_the_list_is_never_single() -> None:
    reading = {"metric": "m", "value": "v"}
    assert not spec(metric=None, value=None, readings=[reading]).single


def test_the_rules_for_what_is_missing_are_those_of_reading_unless_the_mapping_has_its_own() -> None:
    reading = {"missing_ts": "arrival", "missing_id": "payload"}
    given = [{**PLAIN, "name": "a"}, {**PLAIN, "name": "b", "missing_ts": "park", "missing_id": "park"}]
    found = specs(Settings.model_validate({"reading": reading, "mappings": given}))
    assert [(one.missing_ts, one.missing_id) for one in found] == [("arrival", "payload"), ("park", "park")]


def test_the_environment_may_give_the_whole_list_as_json(load_with: Load) -> None:
    given = [
        {**PLAIN, "value": {"path": "v", "scale": 0.1, "values": {"on": 1, "off": False}}, "unit": {"constant": 5}}
    ]
    loaded = load_with(env={"SENSORSYNC_MAPPINGS": json.dumps(given)})
    assert loaded.origins["mappings"] == "env SENSORSYNC_MAPPINGS"
    (reading,) = specs(loaded)[0].readings
    assert reading.value == Source(path="v", scale=0.1, values={"on": "1", "off": "false"})
    assert reading.unit == Source(constant="5")


def test_an_empty_value_inside_a_mapping_sets_nothing(load_with: Load) -> None:
    assert specs(load_with(READING + "  when:\n  format: ~\n  keep:\n")) == specs(load_with(READING))


def test_a_source_of_the_settings_has_the_keys_of_a_source_of_the_engine() -> None:
    assert list(SourceSettings.model_fields) == [field.name for field in fields(Source)]
    defaults = SourceSettings(path="x").model_dump()
    assert {name: value for name, value in defaults.items() if name != "path"} == {
        field.name: field.default for field in fields(Source) if field.name != "path"
    }


def test_the_schema_for_editors_knows_mappings_and_the_short_forms(tmp_path: Path) -> None:
    schema, good, bad = tmp_path / "schema.json", tmp_path / "good.yaml", tmp_path / "bad.yaml"
    schema.write_text(json.dumps(Settings.model_json_schema()))
    good.write_text(yaml.safe_dump({"mappings": EXAMPLE_MAPPINGS}))
    bad.write_text(yaml.safe_dump({"mappings": [{**PLAIN, "value": {"pth": "x"}}]}))
    checker = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(schema)]
    assert subprocess.run([*checker, str(good)], capture_output=True, text=True, check=False).returncode == 0
    refused = subprocess.run([*checker, str(bad)], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "pth" in refused.stdout


def test_every_key_inside_a_mapping_is_described() -> None:
    items = setting_keys()["mappings"].item_model
    assert items is not None
    for model in nested_models(items):
        for name, info in model.model_fields.items():
            assert (info.description or "").endswith("."), name
            assert info.examples, name


def test_a_place_belongs_to_its_key_however_deep() -> None:
    found = {
        ("mappings",): "mappings",
        ("mappings", 0): "mappings",
        ("mappings", 0, "readings", 1, "value", "path"): "path",
        ("mappings", 0, "event_id", "root"): "root",
        ("mappings", 0, "event_id", 1): "event_id",
        ("mappings", 0, "table", "columns", "path", "zone"): "zone",
        ("mappings", 0, "value", "values", "on"): "values",
        ("mqtt", "topics", 3): "mqtt.topics",
    }
    for place, name in found.items():
        key = key_at(place)
        assert key is not None
        assert key.name == name


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("yaml", "sentence"),
    [
        (
            HEAD + "  devise_id: x\n",
            "mappings[0].devise_id is no key of the configuration (file {file}:4): did you mean device_id?",
        ),
        (
            READING + "  unit: {konstant: C}\n",
            "mappings[0].unit.konstant is no key of the configuration (file {file}:9): did you mean constant?",
        ),
        (
            HEAD + "  device_id: d\n  event_id: e\n  ts: t\n  readings:\n  - metric: m\n    valeu: v\n",
            "mappings[0].readings[0].valeu is no key of the configuration (file {file}:9): did you mean value?",
        ),
        (
            TABLE + "      y: {path: b, typ: time}\n",
            "mappings[0].table.columns.y.typ is no key of the configuration (file {file}:9): did you mean type?",
        ),
        (
            HEAD + "  device_id: d\n  ts: t\n  metric: m\n  value: v\n  event_id:\n  - {pth: x}\n",
            "mappings[0].event_id[0].pth is no key of the configuration (file {file}:9): did you mean path?",
        ),
    ],
)
def test_a_name_that_is_unknown_is_one_error_with_its_line_however_deep(
    load_with: Load, tmp_path: Path, yaml: str, sentence: str
) -> None:
    error = refusal(load_with, yaml)
    assert error.errors == ()
    assert str(error) == sentence.format(file=tmp_path / "sensorsync.yaml")


@pytest.mark.parametrize(
    ("yaml", "place", "line", "character", "excerpt"),
    [
        (
            HEAD + "  device_id: d\n  event_id: e\n  ts: t\n  readings:\n  - metric: m\n    value:\n"
            "      path: uplink.decoded[.temperature\n",
            "mappings[0].readings[0].value.path",
            10,
            16,
            "uplink.decoded[.temperature\n               ^",
        ),
        (READING + "  when: state ==\n", "mappings[0].when", 9, 9, "state ==\n        ^"),
        (READING + "  unit: {path: nosuch(x)}\n", "mappings[0].unit.path", 9, 1, "nosuch(x)\n^"),
        (READING.replace("event_id: e", "event_id: 'a.'"), "mappings[0].event_id", 5, 3, "a.\n  ^"),
        (READING.replace("event_id: e", "event_id: [a, {path: b.}]"), "mappings[0].event_id[1].path", 5, 3, "b.\n  ^"),
        (TABLE + "      y: {root: 'a}'}\n", "mappings[0].table.columns.y.root", 9, 2, "a}\n ^"),
        (READING + "  when: |-\n    a == b &&\n    c ]\n", "mappings[0].when", 9, 13, "c ]\n  ^"),
        (
            READING + f"  when: {'a' * 100}. ]\n",
            "mappings[0].when",
            9,
            103,
            f"...{'a' * 58}. ]\n{' ' * 63}^",
        ),
    ],
)
def test_a_bad_expression_is_shown_with_its_line_and_a_caret(
    load_with: Load, tmp_path: Path, yaml: str, place: str, line: int, character: int, excerpt: str
) -> None:
    error = refusal(load_with, yaml)
    assert str(error).startswith(f"{place}: ")
    assert str(error).endswith(f"(from file {tmp_path}/sensorsync.yaml:{line}).")
    assert error.excerpt == excerpt
    assert f" at character {character} " in str(error)


@pytest.mark.parametrize(
    ("yaml", "sentence"),
    [
        (
            HEAD + "  device_id: d\n  event_id: e\n  ts: t\n",
            "mappings[0]: a mapping needs either readings, or metric and value, or table",
        ),
        (
            READING + "  readings: [{metric: m, value: v}]\n",
            "it has readings and metric and value (from file {file}:2)",
        ),
        (
            HEAD + "  device_id: d\n  event_id: e\n  ts: t\n  metric: m\n",
            "metric and value need each other: there is metric alone",
        ),
        (READING.replace("  device_id: d\n", ""), "mappings[0].device_id: it is missing"),
        (
            READING.replace("  event_id: e\n", ""),
            "mappings[0].event_id: it is missing: say where it is, or missing_id: payload",
        ),
        (
            READING.replace("  event_id: e\n", "  missing_id: payload\n").replace("  ts: t\n", ""),
            "mappings[0].ts: it is missing: say where the time is, or missing_ts: arrival or epoch",
        ),
        (
            READING + "  unit: {path: u, topic: '{room}'}\n",
            "mappings[0].unit: a source needs exactly one of path, root, ",
        ),
        (READING + "  unit: {type: text}\n", "it has none (from file {file}:9)"),
        (
            READING + "  unit: {topic: '{rom}'}\n",
            "mappings[0].unit.topic: the topic has no level {{rom}} (named levels: room)",
        ),
        (
            READING + "  unit: {field: ts}\n",
            "mappings[0].unit.field: is for the columns of a table alone (got 'ts' from file {file}:9).",
        ),
        (
            READING.replace("value: v", "value: {path: v, from_unit: degF}"),
            "mappings[0].value: from_unit and to_unit need each other",
        ),
        (
            READING.replace("value: v", "value: {path: v, from_unit: degF, to_unit: bar}"),
            "mappings[0].value.from_unit: degF cannot be converted to bar",
        ),
        (
            READING.replace("value: v", "value: {path: v, scale: 0}"),
            "mappings[0].value.scale: must not be 0 (got '0' from file {file}:8).",
        ),
        (
            READING.replace("value: v", "value: {path: v, scale: x}"),
            "mappings[0].value.scale: must be a number (got 'x' from file {file}:8).",
        ),
        (
            READING.replace("value: v", "value: {path: v, offset: inf}"),
            "mappings[0].value.offset: must be a finite number",
        ),
        (READING.replace("value: v", "value: {path: v, zone: UTC}"), "mappings[0].value.zone: is for times alone"),
        (READING.replace("ts: t", "ts: {path: t, format: unixms}"), "mappings[0].ts.format: must be rfc3339, unix, "),
        (
            READING.replace("ts: t", "ts: {path: t, format: unixms}"),
            "did you mean unix_ms? (got 'unixms' from file {file}:6).",
        ),
        (
            READING.replace("ts: t", "ts: {path: t, zone: Mars/Base}"),
            "mappings[0].ts.zone: must be the IANA name of a zone",
        ),
        (READING.replace("ts: t", "ts: {path: t, type: number}"), "mappings[0].ts.type: must be time, or left away"),
        (
            READING.replace("value: v", "value: {path: v, values: [a]}"),
            "mappings[0].value.values: must be a section with names",
        ),
        (
            READING.replace("value: v", "value: [v]"),
            "mappings[0].value: must be a section with keys below it (got ['v'] from",
        ),
        (
            READING.replace("{room}", "x{room}"),
            "mappings[0].topic: level 'x{{room}}': a named level is a name in braces",
        ),
        (
            READING.replace("metric: m", "metric: {path: m, type: number}"),
            "mappings[0].metric.type: number is not possible here",
        ),
        (
            TABLE + "      y: {path: y, type: text, scale: 2}\n",
            "mappings[0].table.columns.y.type: units, scale and offset make it a number, not text (got 'text' from file",
        ),
        (READING + "  csv_columns: a,b\n", "mappings[0].csv_columns: is for `format: csv` alone: this one is json"),
        (READING + "  influx_precision: s\n", "mappings[0].influx_precision: is for `format: influx` alone"),
        (READING + "  format: csv\n  csv_columns: a,b,a\n", "mappings[0].csv_columns: has a name twice"),
        (
            READING + "  format: csv\n  csv_delimiter: ;;\n",
            "mappings[0].csv_delimiter: must not be longer than 1 characters",
        ),
        (
            READING + "  format: xml\n",
            "mappings[0].format: must be json, value, senml, csv or influx (got 'xml' from file {file}:9).",
        ),
        (TABLE.replace("[x]", "[y]"), "mappings[0].table.key[0]: y is none of the columns that the mapping writes"),
        (TABLE.replace("[x]", "[]"), "mappings[0].table.key: must have at least one entry"),
        (TABLE.replace("[x]", "[x, x]"), "mappings[0].table.key: has a column twice"),
        (TABLE + "      X: b\n", "mappings[0].table.columns.X: is there twice: names of columns know no case"),
        (TABLE.replace("x: a", "x: {field: received_at}"), "mappings[0].table.key[0]: x is when the message arrived"),
        (
            TABLE.replace("x: a", "x: {field: device_id}"),
            "mappings[0].table.columns.x.field: the mapping has no device_id (got 'device_id' from file {file}:8).",
        ),
        (
            TABLE.replace("x: a", "x: {field: event_id}"),
            "mappings[0].table.columns.x.field: the mapping has no event_id",
        ),
        (TABLE.replace("mine", "sensor_readings"), "mappings[0].table.name: sensor_readings is a table of sensorsync"),
        (TABLE.replace("mine", "other.mine"), "mappings[0].table.name: must be the plain name of a table"),
        (TABLE + "  keep: message\n", "mappings[0].keep: says what a column with `field: payload` gets"),
        (
            READING + READING.removeprefix("mappings:\n"),
            "mappings[1].name: mappings[0] has the same name (got 'a' from file {file}:9).",
        ),
        (
            TABLE
            + TABLE.removeprefix("mappings:\n")
            .replace("name: a", "name: b")
            .replace("x: a", "x: {path: a, type: text}"),
            "mappings[1].table: another mapping writes to mine with other columns",
        ),
        (
            TABLE + "security: {max_age: 7d}\n",
            "mappings[0].table: security.max_age asks how old a message is, and this mapping has no ts",
        ),
        (
            READING.replace("ts: t", "ts: {path: t, format: unix_s}"),
            "did you mean unix? (got 'unix_s' from file {file}:6).",
        ),
        (
            READING.replace("device_id: d", "device_id: {topic: {room}}"),
            "mappings[0].device_id.topic: must be a text: put quotes around a value that begins with {{",
        ),
        ("mappings: {lamp: {topic: x}}\n", "mappings: must be a list, with a - before each entry"),
        ("mappings: [x]\n", "mappings[0]: must be a section with keys below it (got 'x' from file {file}:1)."),
        ("mappings: x\n", "mappings: must be a list, with a - before each entry (got 'x' from file {file}:1)."),
        ("mappings:\n- topic: x\n", "mappings[0].name: is missing (from file {file}:2)."),
    ],
)
def test_an_impossible_mapping_is_refused_in_one_sentence_with_its_line(
    load_with: Load, tmp_path: Path, yaml: str, sentence: str
) -> None:
    error = refusal(load_with, yaml)
    assert sentence.format(file=tmp_path / "sensorsync.yaml") in str(error)
    assert error.errors == ()


def test_all_mistakes_of_all_mappings_are_named_at_once(load_with: Load) -> None:
    error = refusal(
        load_with,
        HEAD + "  keeep: x\n  when: '['\n  device_id: {path: 'a.', zone: Mars}\n  event_id: e\n  ts: t\n"
        "  readings:\n  - {metric: m, value: {path: '(', scale: x}}\n"
        "- name: b\n  topic: a/#/b\n  metric: m\n  value: v\n",
    )
    assert [str(part).partition(" ")[0] for part in error.errors] == [
        "mappings[0].keeep",
        "mappings[0].when:",
        "mappings[0].device_id.path:",
        "mappings[0].readings[0].value.path:",
        "mappings[0].readings[0].value.scale:",
        "mappings[1].topic:",
    ]


def test_a_mistake_in_the_environment_is_reported_with_its_variable(load_with: Load) -> None:
    given = [{**PLAIN, "value": {"path": "v[", "kep": 1}}]
    error = refusal(load_with, "", {"SENSORSYNC_MAPPINGS": json.dumps(given)})
    assert [str(part) for part in error.errors] == [
        "mappings[0].value.path: the expression ends too early at character 3 (from env SENSORSYNC_MAPPINGS).",
        "mappings[0].value.kep: is no key of the configuration (got 1 from env SENSORSYNC_MAPPINGS).",
    ]
