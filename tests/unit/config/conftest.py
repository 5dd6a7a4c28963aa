from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sensorsync.config import LoadedSettings, load
from sensorsync.config.loading import yaml_file

Load = Callable[..., LoadedSettings]


@pytest.fixture(autouse=True)
def no_system_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the machine's own /etc/sensorsync/config.yaml out of the tests."""
    monkeypatch.setattr(yaml_file, "SYSTEM_FILE", tmp_path / "etc" / "config.yaml")


@pytest.fixture
def load_with(tmp_path: Path) -> Load:
    """Load from a folder with this sensorsync.yaml and .env, this environment and these flags."""

    def load_with(
        yaml: str | None = None,
        env: Mapping[str, str] | None = None,
        dotenv: str | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> LoadedSettings:
        if yaml is not None:
            (tmp_path / "sensorsync.yaml").write_text(yaml, encoding="utf-8")
        if dotenv is not None:
            (tmp_path / ".env").write_text(dotenv, encoding="utf-8")
        return load(None, flags, {"HOME": str(tmp_path), **(env or {})}, tmp_path)

    return load_with
