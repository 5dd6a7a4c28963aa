"""Run `sensorsync` as its users do: as processes, configured by the environment alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.services import eventually
from tests.services.process import PATIENCE


@dataclass(frozen=True)
class Finished:
    """What a command said and how it ended."""

    exit_code: int
    out: str
    err: str

    @property
    def envelope(self) -> dict[str, Any]:
        """The JSON envelope on stdout, which must hold nothing else."""
        document: dict[str, Any] = json.loads(self.out)
        return document

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.envelope["data"]
        return data


class Commands:
    """The commands of one installation: `environment` holds its settings, `program` are the words that run it."""

    def __init__(
        self, environment: Mapping[str, str], program: Sequence[str] = (sys.executable, "-m", "sensorsync")
    ) -> None:
        self.environment = {**os.environ, **environment}
        self._program = program

    def run(self, *words: str, timeout: float = 120, check: bool = True) -> Finished:
        """Run a command to its end. With `check` it must exit with 0."""
        done = subprocess.run(
            self._line(words),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"{words} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def start(self, log: Path, *words: str) -> Background:
        """Run a command in the background; its stderr goes to the end of `log`."""
        return Background(self._line(words), self.environment, log)

    def _line(self, words: tuple[str, ...]) -> list[str]:
        return [*self._program, *words]


class Background:
    """A command that runs. A context manager: it is killed at the end at the latest."""

    def __init__(self, line: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                line, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def logged(self, text: str, seconds: float = PATIENCE) -> None:
        """Return once the log holds `text`."""
        eventually(lambda: text in self.log.read_text() or not self.running, f"{text!r} in {self.log}", seconds)
        assert text in self.log.read_text(), f"ended without {text!r}:\n{self.log.read_text()}"

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def terminate(self, timeout: float = PATIENCE) -> int:
        """SIGTERM, and the exit code of the soft stop."""
        self.send(signal.SIGTERM)
        return self._process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL, if it still runs: nothing of it runs on."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def finish(self, timeout: float = 120) -> Finished:
        """Wait for the end."""
        out, _ = self._process.communicate(timeout=timeout)
        return Finished(self._process.returncode, out, self.log.read_text())
