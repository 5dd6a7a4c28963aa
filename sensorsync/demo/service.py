"""A service of one run: a child process that is ready once it answers."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sensorsync.demo.child import Child
from sensorsync.errors import SensorsyncError

START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 20.0
_SYSTEM_PATH = ("/usr/sbin", "/usr/local/sbin", "/sbin", "/opt/homebrew/sbin")
"""Folders where distributions install servers, and which an ordinary user's PATH lacks."""


class Service:
    """A service in a folder.

    A subclass prepares the folder, returns the command line, and checks that the service answers.
    """

    name = "service"
    error_class: type[SensorsyncError] = SensorsyncError
    start_attempts = 1
    """Number of attempts to start. A port that was free may be taken before the service has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.child: Child | None = None

    async def prepare(self) -> Sequence[str]:
        """Write the files of the service into `folder`; return the command line that starts it in the foreground."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Return True when the service answers its protocol."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start the service, and return once it answers. Raises an error with its last log lines when it does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, self.start_attempts + 1):
            words = await self.prepare()
            child = self.child = self._new_child(words)
            await child.start()
            if await self._wait_until_ready(child):
                return
            await child.kill()
            if attempt == self.start_attempts:
                raise self.failure(child)

    async def stop(self) -> None:
        """Stop the service in an orderly way."""
        if self.child is not None:
            await self.child.stop(STOP_TIMEOUT_SECONDS)

    async def restart(self) -> None:
        """Stop the service in an orderly way and start it again, with the same port and data.

        Raises an error when it does not come back.
        """
        assert self.child is not None  # noqa: S101 - it was started
        words = self.child.argv
        await self.child.stop(STOP_TIMEOUT_SECONDS)
        child = self.child = self._new_child(words)
        await child.start()
        if not await self._wait_until_ready(child):
            raise self.failure(child)

    async def kill(self) -> None:
        """Kill the service."""
        if self.child is not None:
            await self.child.kill()

    def failure(self, child: Child) -> SensorsyncError:
        """Return the error for a service that does not start, or ends too early."""
        code = child.returncode
        what = "did not answer" if code is None else f"ended with {code}"
        lines = " | ".join(line.strip() for line in child.last_log_lines[-4:]) or "it logged nothing"
        return self.error_class(
            f"The private {self.name} {what}: {lines}", hint="Run again with --keep for its whole log."
        )

    def _new_child(self, argv: Sequence[str]) -> Child:
        return Child(self.name, argv, folder=self.folder, log_file=self.folder / f"{self.name}.log", merge_output=True)

    async def _wait_until_ready(self, child: Child) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_TIMEOUT_SECONDS
        while loop.time() < deadline and child.returncode is None:
            if self.is_ready() and child.returncode is None:
                return True
            await asyncio.sleep(0.05)
        return False


def find_program(*names: str) -> str | None:
    """Return the first of `names` that is on the PATH or where distributions install servers."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_PATH))
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free at this moment.

    It lies below the range that kernels give to outgoing connections. One of those could take the port, or even connect
    to itself, while the service that owns it is restarted.
    """
    while True:
        port = random.randrange(15000, 32000)  # noqa: S311 - no secret
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def accepts_mqtt_connect(port: int) -> bool:
    """Return True when a broker on 127.0.0.1 answers an MQTT 5 CONNECT.

    The connection has a clean start, and is closed at once.
    """
    body = b"\x00\x04MQTT\x05\x02\x00\x1e\x00\x00\x05ready"
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as connection:
            connection.settimeout(1.0)
            connection.sendall(b"\x10" + bytes([len(body)]) + body)
            answered = connection.recv(1) == b"\x20"
            connection.sendall(b"\xe0\x00")
    except OSError:
        return False
    return answered
