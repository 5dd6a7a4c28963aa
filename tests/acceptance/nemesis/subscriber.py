"""One instance of `sensorsync subscribe`, started, ended and watched from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.acceptance.nemesis.plan import Combination

ROOT = Path(__file__).parents[3]
SENSORSYNC = (sys.executable, "-m", "sensorsync")
EXPECTED_EXITS = frozenset({3, 4})
"""A subscriber may end itself with these: the broker or the database refuses (docs/reference/exit-codes.md)."""
_SMALL_BOX = "1MiB"
_STOP_SECONDS = 30.0
_SETTINGS = {
    "SENSORSYNC_DATABASE__CONNECT_TIMEOUT": "1s",
    "SENSORSYNC_DATABASE__LOCK_WAIT_TIMEOUT": "1s",
    "SENSORSYNC_DATABASE__READ_TIMEOUT": "1500ms",
    "SENSORSYNC_DATABASE__TLS__MODE": "preferred",
    "SENSORSYNC_PIPELINE__STOP_TIMEOUT": "5s",
    "SENSORSYNC_PIPELINE__BACKOFF_MIN": "20ms",
    "SENSORSYNC_PIPELINE__BACKOFF_MAX": "300ms",
    "SENSORSYNC_MQTT__KEEP_ALIVE": "4s",
    "SENSORSYNC_MQTT__CONNECT_TIMEOUT": "8s",
    "SENSORSYNC_MQTT__BACKOFF_MIN": "20ms",
    "SENSORSYNC_MQTT__BACKOFF_MAX": "300ms",
    "SENSORSYNC_SECURITY__SIGNATURES": "optional",
    "SENSORSYNC_LOG__FORMAT": "json",
}


def settings(combination: Combination, *, broker: int, database: Mapping[str, str], box: Path) -> dict[str, str]:
    """Return the environment that all subscribers of a run share; `broker` is a port."""
    return {
        **_SETTINGS,
        **database,
        "MQTT_BROKER": f"127.0.0.1:{broker}",
        "SENSORSYNC_MQTT__CLIENT": combination.engine,
        "SENSORSYNC_MQTT__PROTOCOL": combination.protocol,
        "SENSORSYNC_MQTT__CONNECTIONS": str(combination.links),
        "SENSORSYNC_PIPELINE__PROCESSES": str(combination.processes),
        "SENSORSYNC_PIPELINE__WORKERS": str(combination.workers),
        "WORKER_BATCH_SIZE": str(combination.batch_size),
        "SENSORSYNC_DATABASE__WAIT_FOR_DATABASE": "yes" if combination.wait_for_database else "no",
        "SENSORSYNC_DATABASE__CONFLICT": combination.conflict,
        "SENSORSYNC_DEAD_LETTERS__PATH": str(box),
    }


class Subscriber:
    """Its processes come and go; folder, instance name and settings stay."""

    def __init__(self, name: str, environment: Mapping[str, str], folder: Path, program: Sequence[str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.exits: Counter[str] = Counter()
        """How it ended: `SIGKILL`, `SIGTERM 0`, `itself 4`, ..."""
        self.starts = 0
        self.small_box = False
        self._program = program
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("SENSORSYNC_")},
            **environment,
            "SENSORSYNC_MQTT__INSTANCE": name,
            "SENSORSYNC_STATE_DIR": str(folder / f"state-{name}"),
            "PYTHONPATH": str(ROOT),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, small_box: bool = False) -> None:
        """Begin a new life."""
        self.starts += 1
        self.small_box = small_box
        more = {"SENSORSYNC_DEAD_LETTERS__MAX_SIZE": _SMALL_BOX} if small_box else {}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._program, "subscribe", "--plain"],
                env={**self._environment, **more},
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def reap(self) -> int | None:
        """Return the exit code of a life that ended by itself, once; None while it runs or when we ended it."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self._process = None
        self.exits[f"itself {code}"] += 1
        return code

    def kill(self) -> None:
        """Kill -9; children die with their parent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.exits["SIGKILL"] += 1

    async def stop(self) -> int | None:
        """SIGTERM, and the exit code; None where it had ended before. One that does not end is killed, with code -9."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                while process.poll() is None:  # noqa: ASYNC110 - a process has no event
                    await asyncio.sleep(0.02)
        except TimeoutError:
            process.kill()
            process.wait()
        self.exits[f"SIGTERM {process.returncode}"] += 1
        return process.returncode
