"""A secret, set in every possible way, is never shown by a command, in an error or in a log."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensorsync.cli import main
from sensorsync.config import load
from sensorsync.config.loading import yaml_file
from sensorsync.errors import ConfigurationError

ROOT = Path(__file__).parents[3]
MARKER = "marker-s3cret"

YAML = f"""\
mqtt:
  password: {MARKER}-1
  tls: {{cert_file: c.pem, key_file: k.pem, key_password: {MARKER}-2}}
database:
  password: {MARKER}-3
security:
  keys:
  - id: a
    secret: {MARKER}-4
"""
WAYS = {
    "file": {},
    "aliases": {"MQTT_PASSWORD": MARKER, "DB_PASSWORD": MARKER, "SENSORSYNC_SIGNING_KEY": MARKER},
    "systematic": {
        "SENSORSYNC_MQTT__PASSWORD": MARKER,
        "SENSORSYNC_DATABASE__PASSWORD": MARKER,
        "SENSORSYNC_MQTT__TLS__KEY_PASSWORD": MARKER,
        "SENSORSYNC_MQTT__TLS__KEY_FILE": "k.pem",
        "SENSORSYNC_MQTT__TLS__CERT_FILE": "c.pem",
        "SENSORSYNC_SECURITY__KEYS": json.dumps([{"id": "a", "secret": MARKER}]),
    },
    "url": {"MQTT_BROKER": f"mqtts://me:{MARKER}@broker:8883"},
}
BREAKS = {
    "nothing": {},
    "another key": {"DB_PORT": "x"},
    "a rule": {"SENSORSYNC_PIPELINE__STOP_TIMEOUT": "1s"},
    "the url": {"MQTT_BROKER": f"ws://me:{MARKER}@broker/path"},
    "the url's port": {"MQTT_BROKER": f"mqtt://me:{MARKER}@broker:port"},
    "the keys' JSON": {"SENSORSYNC_SECURITY__KEYS": f'[{{"id": "a", "secret": "{MARKER}"'},
    "a key's shape": {"SENSORSYNC_SECURITY__KEYS": json.dumps([MARKER])},
    "a key's fields": {"SENSORSYNC_SECURITY__KEYS": json.dumps([{"id": [1], "secret": [MARKER], "x": MARKER}])},
    "a rule of keys": {"SENSORSYNC_SECURITY__KEYS": json.dumps([{"id": "a", "secret": MARKER, "secret_file": "f"}])},
}


@pytest.fixture(autouse=True)
def quiet_logging() -> Iterator[None]:
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = handlers
    logging.captureWarnings(capture=False)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("where", ["env", ".env"])
def test_no_command_shows_a_secret(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    how: str,
    broken: str,
    where: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(yaml_file, "SYSTEM_FILE", tmp_path / "none")
    if how == "file":
        (tmp_path / "sensorsync.yaml").write_text(YAML, encoding="utf-8")
    variables = {**WAYS[how], **BREAKS[broken]}
    if where == "env":
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
    else:
        (tmp_path / ".env").write_text("".join(f"{n}='{v}'\n" for n, v in variables.items()), encoding="utf-8")

    for words in (["text", "show"], ["json", "show", "--json"], ["json", "check"], ["text", "check", "--json"]):
        main(["--log-level", "DEBUG", "--log-format", words[0], "config", *words[1:]])
    main(["config", "schema"])
    captured = capsys.readouterr()
    assert captured.out
    assert MARKER not in captured.out
    assert MARKER not in captured.err


def test_the_settings_do_not_show_a_secret_when_they_are_printed(tmp_path: Path) -> None:
    (tmp_path / "sensorsync.yaml").write_text(YAML, encoding="utf-8")
    loaded = load(None, {}, {}, tmp_path)
    assert loaded.settings.database.password.get_secret_value() == f"{MARKER}-3"
    for text in (repr(loaded), str(loaded), loaded.settings.model_dump_json(), str(loaded.settings.model_dump())):
        assert MARKER not in text


@pytest.mark.parametrize(
    "yaml",
    [
        f"mqtt:\n  password: [{MARKER}]\n",
        f"mqtt:\n  password: {{{MARKER}: x}}\n",
        f"mqtt:\n  password:\n    - {MARKER}\n   bad\n",
        f"mqtt:\n  password: *{MARKER}\n",
        f"mqtt:\n  password: !{MARKER}\n",
        f"database: {MARKER}\n",
        f"security:\n  keys: {MARKER}\n",
        f"security:\n  keys: [{MARKER}]\n",
        f"security:\n  keys: [{{id: a, secret: [{MARKER}]}}]\n",
    ],
)
def test_a_secret_in_the_wrong_shape_is_not_repeated(tmp_path: Path, yaml: str) -> None:
    (tmp_path / "sensorsync.yaml").write_text(yaml, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load(None, {}, {}, tmp_path)
    error = caught.value
    assert MARKER not in f"{error} {error.hint} {error.__cause__!r} {error.errors}"


def test_git_does_not_take_the_passwords_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cp .env.example .env`, as the documentation says, and then `git add .`"""
    if shutil.which("git") is None:
        assert {".env", ".env.*", "!.env.example"} <= set((ROOT / ".gitignore").read_text().splitlines())
        return
    # A new repository, because the source archive is not one and the user's own list of ignored files must not count.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nothing"))
    checkout = tmp_path / "checkout"
    docker = checkout / "examples/docker"
    docker.mkdir(parents=True)
    shutil.copy(ROOT / ".gitignore", checkout)
    for folder in (checkout, docker):
        for name in (".env", ".env.local", ".env.example"):
            (folder / name).touch()
    subprocess.run(["git", "init", "--quiet"], cwd=checkout, check=True)
    subprocess.run(["git", "add", "."], cwd=checkout, check=True)
    added = subprocess.run(["git", "ls-files"], cwd=checkout, check=True, capture_output=True, text=True).stdout.split()
    assert added == [".env.example", ".gitignore", "examples/docker/.env.example"]
