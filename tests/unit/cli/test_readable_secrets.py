"""Other users of the machine: `config check` says which files with secrets in them they can read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sensorsync.cli import main


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A `.env`, a configuration file and a key of TLS, with a secret in each."""
    monkeypatch.chdir(tmp_path)
    written = {
        ".env": "DB_PASSWORD=marker\n",
        "sensorsync.yaml": "mqtt: {password: marker, tls: {enabled: true, cert_file: cert.pem, key_file: key.pem}}\n",
        "key.pem": "marker",
    }
    (tmp_path / "cert.pem").write_text("no secret")
    for name, text in written.items():
        (tmp_path / name).write_text(text)
    return [tmp_path / name for name in written]


def warnings(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["config", "check", "--json"]) == 0
    shown = capsys.readouterr()
    assert "marker" not in shown.out + shown.err
    found: list[str] = json.loads(shown.out)["data"]["warnings"]
    return [warning for warning in found if "chmod 600" in warning]


def test_every_file_with_a_secret_that_others_can_read_is_named(
    files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for file in files:
        file.chmod(0o644)
    key, yaml, env = warnings(capsys)
    assert "the key file" in key
    assert "key.pem" in key
    assert "sensorsync.yaml holds secrets (mqtt.password)" in yaml
    assert ".env holds secrets (database.password)" in env


def test_files_that_only_their_owner_can_read_are_not_named(
    files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for file in files:
        file.chmod(0o600)
    assert warnings(capsys) == []
    files[0].unlink()
    assert warnings(capsys) == []
