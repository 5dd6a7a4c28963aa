"""docs/reference/json-output.md: the envelope and the `data` of each command, compared with what the commands really print."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import typer

from sensorsync.cli import main
from sensorsync.cli.wiring import app
from sensorsync.config.loading import yaml_file
from tests.commands import Commands
from tests.conftest import DatabaseServer, Mosquitto, need
from tests.references import DOCS
from tests.services import eventually

pytestmark = [pytest.mark.timeout(360)]

PAGE = (DOCS / "reference/json-output.md").read_text(encoding="utf-8")
_SECTION = re.compile(r"^## `(.+?)`\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
_ROW = re.compile(r"^\| `(\w+)` \| ([a-z ]+) \|(.*)\|$", re.MULTILINE)
_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
SECTIONS = {name: {row[0]: (row[1], row[2]) for row in _ROW.findall(text)} for name, text in _SECTION.findall(PAGE)}
READING = {"event_id": "1", "device_id": "d", "metric": "m", "ts": "2026-01-02T03:04:05Z", "value": 1}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, database_server: DatabaseServer) -> Mapping[str, Any]:
    """The envelope of each section's command, run for real."""
    need(Mosquitto)
    folder = tmp_path_factory.mktemp("json")
    with Mosquitto() as broker, pytest.MonkeyPatch.context() as patch:
        settings = {
            "MQTT_BROKER": f"127.0.0.1:{broker.port}",
            **database_server.environment(name="json_output"),
            "DB_USER": "root",
            "DB_PASSWORD": "",
            "SENSORSYNC_STATE_DIR": str(folder / "state"),
            "SENSORSYNC_SIGNING_KEY": "s" * 32,
            "SENSORSYNC_PUBLISH__PROCESSES": "1",
        }
        commands = Commands(settings)
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.setattr(yaml_file, "SYSTEM_FILE", folder / "none")

        found = {words: told(words) for words in ("init-db", "init-db --check", "init-db --sql", "init-db --grants")}
        with commands.start(folder / "subscribe.log", "subscribe") as subscriber:
            subscriber.logged("link(s)")
            found["stress-publish --verify"] = told("stress-publish --verify --messages 200 --run r1")
            (folder / "recording.jsonl").write_text(f"{json.dumps(READING)}\nno reading\n")
            found["stress-publish --file"] = told(f"stress-publish --file {folder}/recording.jsonl")
            with pytest.MonkeyPatch.context() as wrong:
                wrong.setenv("SENSORSYNC_SIGNING_KEY", "w" * 32)
                told("stress-publish --messages 3")
            eventually(lambda: told("dlq inspect")["data"]["total"] == 3, "three dead letters")
        found["audit"] = told("audit r1")
        found["check-cloud"] = told("check-cloud --quick")
        (folder / "samples.jsonl").write_text('{"topic": "a", "payload": 1}\nno sample\n')
        found["map"] = told(f"map --file {folder}/samples.jsonl")
        found["tune-db"] = told("tune-db")
        found["tune-db --config-file"] = told("tune-db --config-file")
        found["tune-db --revert"] = told("tune-db --revert")
        for words in ("dlq inspect", "dlq show 1", "dlq replay", "dlq release"):
            found[words.removesuffix(" 1")] = told(words)
        found["dlq export"] = told(f"dlq export {folder}/letters.jsonl")
        found["dlq import"] = told(f"dlq import {folder}/letters.jsonl")
        found["dlq purge"] = told("dlq purge --all --yes")
        for words in ("config show", "config check", "config schema", "keys list"):
            found[words] = told(words)
        found["keys generate"] = told(f"keys generate --id k1 --algorithm EdDSA --out {folder}")
        public = json.dumps([{"id": "k1", "algorithm": "EdDSA", "secret_file": f"{folder}/k1.pem"}])
        patch.setenv("SENSORSYNC_SECURITY__KEYS", public)
        found["keys show-public"] = told("keys show-public k1")
        found["demo"] = told("demo --messages 200")
    return found


def told(words: str) -> dict[str, Any]:
    """The envelope that a command prints, run in this process."""
    handlers, out = list(logging.getLogger().handlers), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(out):
        main([*words.split(), "--json"])
    logging.getLogger().handlers[:] = handlers
    logging.captureWarnings(capture=False)
    out.seek(0)
    envelope: dict[str, Any] = json.load(out)
    return envelope


def test_each_command_with_json_has_its_section(results: Mapping[str, Any]) -> None:
    assert set(results) == set(SECTIONS)
    documented = {" ".join(word for word in name.split() if not word.startswith("-")) for name in SECTIONS}
    assert set(_with_json(typer.main.get_command(app))) == documented


@pytest.mark.parametrize("name", SECTIONS)
def test_the_data_has_the_keys_and_types_of_the_page(name: str, results: Mapping[str, Any]) -> None:
    envelope, rows = results[name], SECTIONS[name]
    assert set(envelope) == {"sensorsync", "command", "ok", "exit_code", "data", "errors"}
    assert name.startswith(envelope["command"])
    data = envelope["data"]
    if name == "config schema":
        assert data["$schema"].startswith("https://json-schema.org/")
        return
    assert set(data) == set(rows), envelope["errors"]
    for key, value in data.items():
        types, text = rows[key]
        assert any(_is(value, word) for word in types.split(" or ")), f"{key}: {value!r} is no {types}"
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict) and "by " not in text:
            assert [word for word in inner if f"`{word}`" not in text] == [], (
                f"keys of {key} that the page does not name"
            )


def _is(value: object, word: str) -> bool:
    return isinstance(value, _TYPES[word]) and (word == "boolean" or not isinstance(value, bool))


def _with_json(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _with_json(inner, (*path, name))
    if any("--json" in option.opts for option in command.params):
        yield " ".join(path)
