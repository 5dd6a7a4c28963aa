"""What is released is what is installed: source archive -> wheel -> an empty environment, without anything of ours around it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from sensorsync import __version__

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]


def _run(words: list[str | Path], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_wheel_made_of_the_source_archive_works_in_an_empty_environment(tmp_path: Path) -> None:
    _run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, ROOT], tmp_path
    )  # the archive, and of it the wheel
    (archive,) = tmp_path.glob("*.tar.gz")
    (wheel,) = tmp_path.glob("*.whl")
    with tarfile.open(archive) as opened:
        names = {name.split("/", 1)[1] for name in opened.getnames() if "/" in name}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "config.example.yaml", "tests/run.sh", "docs/index.md"} <= names

    _run([sys.executable, "-m", "venv", "installed"], tmp_path)
    programs = tmp_path / "installed" / "bin"
    _run(
        [programs / "python", "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check", wheel],
        tmp_path,
    )
    installed = _run([programs / "python", "-m", "pip", "list", "--format=freeze"], tmp_path)
    assert not {"pytest", "mypy", "ruff", "hypothesis"} & {line.split("==")[0] for line in installed.splitlines()}

    settings = {"SENSORSYNC_DATABASE__DRIVER": "sqlite", "SENSORSYNC_DATABASE__PATH": str(tmp_path / "readings.sqlite")}
    for words in (["sensorsync"], ["python", "-m", "sensorsync"]):
        program: list[str | Path] = [programs / words[0], *words[1:]]
        assert __version__ in _run([*program, "--version"], tmp_path)
        assert "SQLite" in _run([*program, "init-db"], tmp_path, settings)
        assert "inspect" in _run([*program, "dlq", "--help"], tmp_path)
    # The shell is told by the parent process, and a test's parents may be none.
    completion = _run(["bash", "-c", '"$0" --show-completion; exit $?', programs / "sensorsync"], tmp_path)
    assert "_SENSORSYNC_COMPLETE" in completion
