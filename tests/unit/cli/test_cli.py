"""The command line as a process and in this one."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from sensorsync import __version__
from sensorsync.cli.wiring import app, parse_duration_flag
from sensorsync.config.loading import yaml_file
from sensorsync.config.reference.keys import setting_keys
from sensorsync.console.results import RENDERERS
from sensorsync.errors import BrokerError, UsageError
from tests.in_process import Ended, run_here

Cli = Callable[..., Ended]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cli]:
    """Run the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(yaml_file, "SYSTEM_FILE", tmp_path / "etc" / "config.yaml")
    monkeypatch.delenv("SENSORSYNC_STATE_DIR")
    handlers = list(logging.getLogger().handlers)

    def cli(*arguments: str) -> Ended:
        return run_here(capsys, *arguments)

    yield cli
    logging.getLogger().handlers[:] = handlers
    logging.captureWarnings(capture=False)


def test_config_show_has_every_key_with_value_and_origin(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_HOST", "db")
    monkeypatch.setenv("DB_PASSWORD", "x")
    ended = cli("config", "show", "--json")
    data = ended.envelope["data"]
    assert (ended.code, ended.err, data["file"]) == (0, "", None)
    assert set(data["settings"]) == set(setting_keys())
    assert data["settings"]["database.host"] == {"value": "db", "origin": "env DB_HOST"}
    assert data["settings"]["database.password"] == {"value": "***", "origin": "env DB_PASSWORD"}
    assert data["settings"]["mqtt.password"] == {"value": "(unset)", "origin": "default"}
    assert data["settings"]["pipeline.batch_timeout"] == {"value": "200ms", "origin": "default"}
    assert data["settings"]["mqtt.tls.enabled"]["value"] is False
    assert data["settings"]["dead_letters.path"]["value"].endswith("/dead-letters.sqlite")


def test_config_show_for_people_names_file_and_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "sensorsync.yaml").write_text("mqtt:\n  host: broker.example.com\n")
    ended = cli("config", "show")
    assert f"Configuration file: {tmp_path}/sensorsync.yaml" in ended.out
    line = next(line for line in ended.out.splitlines() if "mqtt.host" in line)
    assert line.split() == ["mqtt.host", "broker.example.com", "file", f"{tmp_path}/sensorsync.yaml:2"]


def test_global_flags_are_a_layer_of_the_settings(cli: Cli) -> None:
    settings = cli("--log-level", "debug", "config", "show", "--json").envelope["data"]["settings"]
    assert settings["log.level"] == {"value": "DEBUG", "origin": "flag --log-level"}


def test_config_check_reports_a_valid_configuration(cli: Cli, tmp_path: Path) -> None:
    ended = cli("config", "check")
    assert ended == (0, "The configuration is valid (file: none).\n", "")


def test_config_check_names_every_mistake(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PORT", "x")
    monkeypatch.setenv("MQTT_BROKER_PORT", "0")
    ended = cli("config", "check", "--json")
    assert ended.code == 2
    assert [error["message"].partition(":")[0] for error in ended.envelope["errors"]] == ["mqtt.port", "database.port"]


def test_config_check_finds_missing_files(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CA_CERT_PATH", "nowhere.pem")
    ended = cli("config", "check", "--json")
    assert ended.code == 2
    assert ended.envelope["data"]["valid"] is False
    assert ended.envelope["errors"][0]["message"] == (
        "mqtt.tls.ca_file: the file nowhere.pem does not exist (from env CA_CERT_PATH)."
    )


def test_config_check_warns_of_weak_keys_open_files_and_bare_passwords(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "sensorsync.yaml"
    file.write_text("mqtt:\n  host: far\n  password: x\nsecurity:\n  keys:\n  - {id: a, secret: short}\n")
    file.chmod(0o644)
    warnings = cli("config", "check", "--json").envelope["data"]["warnings"]
    assert [warning.split(" ")[0] for warning in warnings] == ["The", str(file), "mqtt.password"]
    file.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert "Warning: mqtt.password goes to far unencrypted" in cli("config", "check").out


def test_config_schema_is_a_schema_that_knows_every_section(cli: Cli) -> None:
    schema = json.loads(cli("config", "schema").out)
    assert schema == cli("config", "schema", "--json").envelope["data"]
    assert {"mqtt", "database", "state_dir"} <= schema["properties"].keys()


def test_config_schema_needs_no_valid_configuration(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PORT", "x")
    assert cli("config", "schema").code == 0


@pytest.mark.parametrize(
    ("arguments", "command", "message"),
    [
        (["config", "show", "--bad"], "config show", "No such option: --bad"),
        (["config", "foo"], "config", "No such command 'foo'"),
        (["frobnicate"], "sensorsync", "No such command 'frobnicate'"),
    ],
)
def test_a_usage_error_is_exit_code_2_and_an_envelope_under_json(
    cli: Cli, arguments: list[str], command: str, message: str
) -> None:
    plain, machine = cli(*arguments), cli(*arguments, "--json")
    assert (plain.code, plain.out) == (2, "")
    assert message in plain.err
    assert "--help`" in plain.err
    assert (machine.code, machine.err) == (2, "")
    assert machine.envelope["command"] == command
    assert machine.envelope["errors"][0]["code"] == "usage"


@pytest.mark.parametrize("arguments", [[], ["config"]])
def test_without_a_command_the_help_is_shown_and_it_is_a_usage_error(cli: Cli, arguments: list[str]) -> None:
    ended = cli(*arguments)
    assert (ended.code, ended.err) == (2, "")
    assert "Usage: sensorsync" in ended.out


def test_a_missing_configuration_file_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    ended = cli("--config", "nowhere.yaml", "config", "show")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(
        f"Error: The configuration file {tmp_path}/nowhere.yaml (named by --config) does not exist"
    )


def test_a_duration_flag_takes_units_and_an_invalid_one_is_named() -> None:
    assert (parse_duration_flag("--until-idle", "200ms"), parse_duration_flag("--until-idle", None)) == (0.2, None)
    with pytest.raises(UsageError, match=r"^--until-idle: not a duration"):
        parse_duration_flag("--until-idle", "soon")


@pytest.mark.parametrize(
    ("error", "code", "word"), [(typer.Abort(), 5, "interrupted"), (BrokerError("x"), 3, "broker")]
)
def test_an_error_before_the_command_runs_is_an_envelope_too(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, word: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("sensorsync.console.logs.configure", fail)
    ended = cli("config", "show", "--json")
    assert (ended.code, ended.envelope["exit_code"], ended.envelope["errors"][0]["code"]) == (code, code, word)


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli("--version") == (0, f"sensorsync {__version__}\n", "")


def sensorsync(*arguments: str, cwd: Path, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sensorsync", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        **kwargs,
    )


def test_help_is_quick_because_nothing_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from sensorsync.cli import main; main(['--help']); "
        "heavy = {'asyncio', 'pydantic', 'rich', 'yaml', 'pymysql', 'mqtt5', 'cryptography', 'sensorsync.config'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path(__file__).parents[3])


def test_python_m_sensorsync_is_the_command_line(tmp_path: Path) -> None:
    done = sensorsync("config", "check", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr, json.loads(done.stdout)["ok"]) == (0, "", True)


def test_a_reader_that_goes_away_is_not_an_error(tmp_path: Path) -> None:
    shell = f"{sys.executable} -m sensorsync config schema | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert (done.stdout, done.stderr) == ("{0\n", "")


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def test_every_command_but_subscribe_takes_json_and_every_one_has_a_help() -> None:
    found = dict(commands(typer.main.get_command(app)))
    with_json = {name for name, command in found.items() if any("--json" in option.opts for option in command.params)}
    assert found.keys() - with_json == {"subscribe"}
    assert all(command.help for command in found.values())


@pytest.mark.parametrize("command", RENDERERS)
def test_every_renderer_that_is_registered_exists_and_is_for_a_command(command: str) -> None:
    assert command in dict(commands(typer.main.get_command(app)))
    module, _, function = RENDERERS[command].partition(":")
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize("words", [(), ("dlq",), ("keys",), ("config",)])
def test_the_list_of_commands_cuts_no_sentence_off_on_a_terminal_of_80_columns(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sensorsync", *words, "--help"],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    commands = done.stdout.split("Commands:")[1].strip().splitlines()
    assert commands
    assert [line for line in commands if line.endswith("...")] == []
