"""docs/tutorial/first-pipeline.md: its commands are run as they stand there, and print what it says."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import DatabaseServer, Mosquitto, need, not_installed
from tests.services import eventually, free_port, is_oracle_mysql
from tests.services.process import which

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

PAGE = Path(__file__).parents[2] / "docs/tutorial/first-pipeline.md"
_BLOCK = re.compile(r"(?:<!-- (not run|again until it is so) -->\n\n)?```(sh|console)\n(.*?)```", re.DOTALL)
# What differs from run to run, and from machine to machine.
_CHANGES = re.compile(r"[\d-]{10} [\d:]{8} INFO|\d+\.\d+\.\d+(?!\.)|[\d.]+ m?s\b")
# Also when the test is killed: bash then reads the end of its input. The broker is a daemon, out of reach of a signal to the group.
_AT_THE_END = """trap 'kill $(cat "$OLDPWD/mosquitto.pid" mosquitto.pid 2>/dev/null) 2>/dev/null; kill -KILL 0' EXIT"""
_END = "-- end of the command, exit code "


class Command(NamedTuple):
    """One command of the page, with what it prints there (None: nothing is said about it)."""

    text: str
    printed: str | None
    again: bool


def commands() -> Iterator[Command]:
    for note, language, text in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if note == "not run":
            continue
        if language == "sh":
            yield Command(text, None, again=False)
            continue
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            yield Command(f"{command}\n", printed, again=bool(note))


class Shell:
    """A bash that keeps its folder, variables and jobs from one command to the next."""

    def __init__(self, folder: Path) -> None:
        self._output = folder / "output"
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                ["bash"],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        self.run(_AT_THE_END)

    def run(self, command: str) -> str:
        """What it prints. AssertionError when it fails, or takes longer than a minute."""
        begin = self._output.stat().st_size
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\necho '{_END}'$?\n")
        self._process.stdin.flush()
        eventually(lambda: _END in self._since(begin), f"the end of {command}", 60)
        printed, _, code = self._since(begin).partition(_END)
        assert code.strip() == "0", f"{command}\n{printed}"
        return printed

    def close(self) -> None:
        """End it, and all that it started."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def _since(self, begin: int) -> str:
        return self._output.read_bytes()[begin:].decode()


def test_the_tutorial_works_and_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_oracle_mysql():
        pytest.skip("the tutorial is about MariaDB")
    need(Mosquitto)
    need(DatabaseServer)
    if not all(map(which, ("mosquitto_pub", "mariadb", "mariadb-admin"))):
        not_installed("the tutorial's clients are missing (Debian: apt-get install mosquitto-clients mariadb-client)")
    monkeypatch.delenv("SENSORSYNC_STATE_DIR")
    ports = {"1884": str(free_port()), "3307": str(free_port())}
    shell = Shell(tmp_path)
    try:
        for command in commands():
            text = _with_ports(command.text, ports)
            if command.printed is None:
                shell.run(text)
                continue
            expected = _with_ports(command.printed, ports)
            if command.again:
                eventually(partial(_shows, shell, text, expected), text, 30)
            else:
                printed = shell.run(text)
                assert _same(expected, printed), f"{text}printed\n{printed}\nand not\n{expected}"
    finally:
        shell.close()


def _shows(shell: Shell, text: str, expected: str) -> bool:
    return _same(expected, shell.run(f"{text.rstrip()} || true"))


def _with_ports(text: str, ports: dict[str, str]) -> str:
    for written, free in ports.items():
        text = re.sub(rf"\b{written}\b", free, text)
    return text


def _same(expected: str, printed: str) -> bool:
    """Whether it is the same but for what changes; `...` on the page stands for anything."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(_CHANGES.sub("#", expected), _CHANGES.sub("#", printed), flags)
