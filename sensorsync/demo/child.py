"""One child process: started, watched, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sensorsync.demo import tether

LINE_LIMIT = 1 << 20
"""Longest line that is read from a child, in bytes."""


def child_environment(
    environ: Mapping[str, str], without: frozenset[str], prefix: str = "SENSORSYNC_"
) -> dict[str, str]:
    """`environ` without the names in `without` and all that begin with `prefix`: no setting of the user's reaches the child."""
    return {name: value for name, value in environ.items() if name not in without and not name.startswith(prefix)}


class Child:
    """A program in a session of its own (a Ctrl-C of the terminal reaches only us), tethered to our life.

    Its standard error, or with `merged` both outputs, is read line by line: each line goes to `log`, the last ones are kept, and
    `on_line` gets each one. Without `merged`, `output` is all that it wrote to standard output, once it has ended.
    """

    def __init__(
        self,
        name: str,
        words: Sequence[str],
        *,
        folder: Path,
        log: Path,
        environ: Mapping[str, str] | None = None,
        merged: bool = False,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.words = tuple(words)
        self.log = log
        self.output = ""
        self._folder = folder
        self._environ = dict(os.environ if environ is None else environ)
        self._merged = merged
        self._on_line = on_line
        self._last: deque[str] = deque(maxlen=20)
        self._process: asyncio.subprocess.Process | None = None
        self._readers: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id, None before it was started."""
        return self._process.pid if self._process else None

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.returncode if self._process else None

    @property
    def last_lines(self) -> list[str]:
        """The last lines that it logged."""
        return list(self._last)

    async def start(self) -> None:
        """Start it. Must be called on the main thread, to whose life the tether ties it."""
        launcher = [sys.executable, "-I", "-S", str(tether.__file__), str(os.getpid())]
        self._process = await asyncio.create_subprocess_exec(
            *launcher,
            *self.words,
            cwd=self._folder,
            env=self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT if self._merged else asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=LINE_LIMIT,
        )
        self._readers = asyncio.create_task(self._read(self._process))

    async def wait(self) -> int:
        """Return its exit code once it has ended and all that it wrote is read."""
        assert self._process is not None and self._readers is not None  # noqa: PT018, S101 - it was started
        await asyncio.shield(self._readers)
        return await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, timeout: float) -> int | None:
        """SIGTERM, and SIGKILL after `timeout` seconds; return its exit code, None if it never ran."""
        if self._process is None:
            return None
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout):
                return await self.wait()
        except TimeoutError:
            return await self.kill()

    async def kill(self) -> int | None:
        """SIGKILL, and wait for the end."""
        self.send(signal.SIGKILL)
        return await self.wait() if self._process else None

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        if self._merged:
            await self._lines(process.stdout)
        else:
            output, _ = await asyncio.gather(_all(process.stdout), self._lines(process.stderr))
            self.output = output

    async def _lines(self, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None  # noqa: S101 - it is a pipe
        with self.log.open("ab") as log:
            while True:
                try:
                    line = await stream.readline()
                except ValueError:  # longer than the limit: a part of it is gone, the next lines are whole again
                    continue
                if not line:
                    return
                log.write(line)
                log.flush()
                text = line.decode("utf-8", "replace").rstrip("\n")
                self._last.append(text)
                if self._on_line is not None:
                    self._on_line(text)


async def _all(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None  # noqa: S101 - it is a pipe
    return (await stream.read()).decode("utf-8", "replace")
