"""Where a measurement is made: a private broker, a private database, and processes whose memory and CPU time are known."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.services import DatabaseServer, Mosquitto, eventually

KEY = "a-key-of-the-benchmark-of-at-least-32-bytes"
DATABASE_OPTIONS = ("--innodb-buffer-pool-size=1G", "--innodb-log-file-size=1G")
"""What anybody gives a database that takes in data all day; every COMMIT is flushed (innodb_flush_log_at_trx_commit = 1)."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a measured process ended."""

    out: str
    err: str
    exit_code: int
    cpu: float
    """Seconds of CPU time, its children's included."""
    peak_rss: int
    """Bytes: the most memory that one process of it had."""

    @property
    def last_line(self) -> dict[str, Any]:
        """The last line of stdout, which is JSON."""
        found: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return found

    @property
    def stopped(self) -> dict[str, Any]:
        """What a subscriber with JSON logs says at its end."""
        events = (json.loads(line) for line in reversed(self.err.splitlines()) if line.startswith("{"))
        found: dict[str, Any] | None = next((event for event in events if event.get("event") == "stopped"), None)
        if found is None:
            raise RuntimeError(f"it did not end as it should (exit {self.exit_code}):\n{self.err[-4000:]}")
        return found


class Process:
    """A process that is measured. A context manager: it is killed at the end at the latest."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._out: list[str] = []
        self._err: list[str] = []
        self._popen = subprocess.Popen(
            words,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            threading.Thread(target=into.extend, args=(stream,), daemon=True)
            for stream, into in ((self._popen.stdout, self._out), (self._popen.stderr, self._err))
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._popen.returncode is None:
            self._popen.kill()
            self._popen.wait()

    def said(self, text: str, seconds: float = 120.0) -> None:
        """Return once it has printed `text`."""
        eventually(
            lambda: any(text in line for line in (*self._out, *self._err)) or self._popen.poll() is not None,
            f"{text!r} in the output of {self._popen.args!r}",
            seconds,
        )
        if not any(text in line for line in (*self._out, *self._err)):
            raise RuntimeError(f"it ended without {text!r}:\n{''.join(self._err)[-4000:]}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def status(self, name: str) -> int:
        """A memory figure of `/proc/PID/status` (proc_pid_status(5)), `VmRSS` or `VmHWM`, in bytes."""
        for line in Path(f"/proc/{self._popen.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"no {name} in /proc/{self._popen.pid}/status")

    def end(self) -> Ended:
        """Wait for its end."""
        _, status, usage = os.wait4(self._popen.pid, 0)
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        for reader in self._readers:
            reader.join()
        return Ended(
            "".join(self._out),
            "".join(self._err),
            self._popen.returncode,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * 1024,
        )


class Arena:
    """A broker and a database of our own, and `sensorsync` set up for them by its environment."""

    def __init__(self, broker: Mosquitto, database: DatabaseServer, folder: Path) -> None:
        self.broker = broker
        self.database = database
        self.folder = folder
        self._settings = {
            "MQTT_BROKER": f"{broker.host}:{broker.port}",
            **database.environment(),
            "SENSORSYNC_STATE_DIR": str(folder / "state"),
            "SENSORSYNC_SIGNING_KEY": KEY,
            "SENSORSYNC_SECURITY__SIGNATURES": "required",
            "SENSORSYNC_LOG__FORMAT": "json",
        }

    def sensorsync(self, *words: str, **changes: str) -> Process:
        """A command of ours; `changes` to its environment."""
        return Process([sys.executable, "-m", "sensorsync", *words], {**self._settings, **changes})

    def reference(self, role: str, *words: str) -> Process:
        """The reference pipeline in one of its roles."""
        ports = ["--mqtt-port", str(self.broker.port), "--db-port", str(self.database.port)]
        return Process([sys.executable, "-m", "tests.bench.reference", role, *ports, *words])

    def new_table(self) -> None:
        """The table as `init-db` makes it, empty."""
        with self.database.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS `{self.database.name}`")
            cursor.execute(f"CREATE DATABASE `{self.database.name}`")
        self.database.prepare()


@contextmanager
def arena(*, max_inflight: int | None = None, database_options: Sequence[str] = ()) -> Iterator[Arena]:
    """A fresh broker, a fresh database and a fresh state folder."""
    with (
        tempfile.TemporaryDirectory(prefix="sensorsync-bench-") as folder,
        Mosquitto(max_inflight=max_inflight) as broker,
        DatabaseServer(options=(*DATABASE_OPTIONS, *database_options)) as database,
    ):
        yield Arena(broker, database, Path(folder))
