"""One child process: started, killed, frozen, brought back."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

REAL_MYSQL = Path(__file__).parents[1] / "tools" / "real-mysql"
START_SECONDS = 40.0
STOP_SECONDS = 40.0

# Outlives the test process only to kill its servers: the pipe that it reads from closes when that process is gone. (A parent-death
# signal would be tied to the thread that started the server, and `preexec_fn` is not safe in a process with threads.)
_GUARD = 'trap "" INT TERM HUP; read -r _; kill -9 "$1" 2>/dev/null; rm -rf "$2"'


PATIENCE = 120.0
"""Seconds that a test waits for a condition: on a machine with ten times more to do than it can, a process takes 20 to start."""


def eventually(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Return as soon as `condition()` is true; AssertionError saying `what` was awaited after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)


def free_port() -> int:
    """A TCP port that nobody uses, below the range that the kernel gives to outgoing connections: it is still ours after a kill.

    Workers of pytest-xdist share the range by turns, so that none takes the port of a server that another has just killed.
    """
    worker, workers = (
        int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]),
        int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
    )
    while True:
        port = random.randrange(15000 + worker, 32000, workers)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Server:
    """One child process: a subclass says how it is started and when it is ready."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ss-"))
        self.host = "127.0.0.1"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """The words that start it in the foreground."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether a real connection works."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it has printed so far, over all starts."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> Self:
        """Start it on its port and data; return once it answers."""
        assert not self.running, "already running"
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
            )
        self._process = process
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "guard", str(process.pid), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if not self.running or time.monotonic() > deadline:
                state = "is not ready" if self.running else f"ended with {process.returncode}"
                self.kill()
                raise RuntimeError(f"{type(self).__name__} {state}:\n" + "\n".join(self.log.splitlines()[-20:]))
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """End it in an orderly way (SIGTERM), data kept."""
        if self.running:
            self._send(signal.SIGCONT)
            self._send(signal.SIGTERM)
        self._reap()

    def kill(self) -> None:
        """`kill -9`: no farewell, no flush."""
        if self.running:
            self._send(signal.SIGKILL)
        self._reap()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nobody answers."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._send(signal.SIGCONT)

    def restart(self) -> Self:
        """Stop it, if it runs, and start it on the same port and data."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Kill it and remove its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None, "not started"
        self._process.send_signal(number)

    def _reap(self) -> None:
        if self._process is not None:
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None


def which(program: str) -> str | None:
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")
