"""Passwords in files of their own: secrets of Docker, credentials of systemd."""

from __future__ import annotations

from pathlib import Path

import pytest

from sensorsync.commands.config import check
from sensorsync.config import Settings
from sensorsync.errors import ConfigurationError
from sensorsync.service.supervisor.process_config import ProcessConfig, parse_config
from tests.unit.config.conftest import Load

BOTH = pytest.mark.parametrize(
    ("variable", "file_variable", "section"),
    [
        ("MQTT_PASSWORD", "SENSORSYNC_MQTT__PASSWORD_FILE", "mqtt"),
        ("DB_PASSWORD", "SENSORSYNC_DATABASE__PASSWORD_FILE", "database"),
    ],
)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("  s3crét$ \n")
    return file


def password(settings: Settings, section: str) -> str:
    secret = getattr(settings, section).password
    assert secret is not None
    return str(secret.get_secret_value())


@BOTH
def test_a_password_comes_from_its_file_without_the_line_break(
    load_with: Load, secret: Path, variable: str, file_variable: str, section: str
) -> None:
    assert password(load_with(env={file_variable: str(secret)}).settings, section) == "  s3crét$ "


@BOTH
def test_a_password_in_two_places_is_refused_and_not_shown(
    load_with: Load, secret: Path, variable: str, file_variable: str, section: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"{section}\.password: .* env {variable}") as caught:
        load_with(env={file_variable: str(secret), variable: "marker"})
    assert "marker" not in str(caught.value)
    assert "s3crét" not in str(caught.value)


@BOTH
@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe", b"x" * 65_537])
def test_a_file_that_holds_no_password_is_refused(
    load_with: Load, tmp_path: Path, variable: str, file_variable: str, section: str, content: bytes | None
) -> None:
    file = tmp_path / "no-secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"{section}\.password_file: .*env {file_variable}"):
        load_with(env={file_variable: str(file)})


@BOTH
def test_a_world_readable_password_file_is_reported(
    load_with: Load, secret: Path, variable: str, file_variable: str, section: str
) -> None:
    loaded = load_with(env={file_variable: str(secret)})
    secret.chmod(0o644)
    assert any(str(secret) in warning for warning in check(loaded).data["warnings"])
    secret.chmod(0o600)
    assert not any(str(secret) in warning for warning in check(loaded).data["warnings"])


def test_a_process_of_an_instance_gets_the_password_that_its_siblings_have(load_with: Load, secret: Path) -> None:
    settings = load_with(env={"SENSORSYNC_DATABASE__PASSWORD_FILE": str(secret)}).settings
    line = ProcessConfig(settings, 1).to_json_line()
    secret.write_text("another one\n")
    assert password(parse_config(line).settings, "database") == "  s3crét$ "
