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

from sensorsync.demo import parent_death as tether

MAX_LINE_BYTES = 1 << 20
"""Longest line that is read from a child, in bytes."""


def child_environment(
    environ: Mapping[str, str], excluded: frozenset[str], prefix: str = "SENSORSYNC_"
) -> dict[str, str]:
    """`environ` without the names in `without` and all that begin with `prefix`: no setting of the user's reaches the child."""
    return {name: value for name, value in environ.items() if name not in excluded and not name.startswith(prefix)}


class Child:
    """A program in a session of its own (a Ctrl-C of the terminal reaches only us), tethered to our life.

    Its standard error, or with `merged` both outputs, is read line by line: each line goes to `log`, the last ones are kept, and
    `on_line` gets each one. Without `merged`, `output` is all that it wrote to standard output, once it has ended.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        folder: Path,
        log_file: Path,
        environ: Mapping[str, str] | None = None,
        merge_output: bool = False,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.argv = tuple(argv)
        self.log_file = log_file
        self.output = ""
        self._folder = folder
        self._environ = dict(os.environ if environ is None else environ)
        self._merge_output = merge_output
        self._on_line = on_line
        self._last_log_lines: deque[str] = deque(maxlen=20)
        self._process: asyncio.subprocess.Process | None = None
        self._reader_task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id, None before it was started."""
        return self._process.pid if self._process else None

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.returncode if self._process else None

    @property
    def last_log_lines(self) -> list[str]:
        """The last lines that it logged."""
        return list(self._last_log_lines)

    async def start(self) -> None:
        """Start it. Must be called on the main thread, to whose life the tether ties it."""
        launcher = [sys.executable, "-I", "-S", str(tether.__file__), str(os.getpid())]
        self._process = await asyncio.create_subprocess_exec(
            *launcher,
            *self.argv,
            cwd=self._folder,
            env=self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT if self._merge_output else asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=MAX_LINE_BYTES,
        )
        self._reader_task = asyncio.create_task(self._read_output(self._process))

    async def wait(self) -> int:
        """Return its exit code once it has ended and all that it wrote is read."""
        assert self._process is not None and self._reader_task is not None  # noqa: PT018, S101 - it was started
        await asyncio.shield(self._reader_task)
        return await self._process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, timeout: float) -> int | None:
        """SIGTERM, and SIGKILL after `timeout` seconds; return its exit code, None if it never ran."""
        if self._process is None:
            return None
        self.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout):
                return await self.wait()
        except TimeoutError:
            return await self.kill()

    async def kill(self) -> int | None:
        """SIGKILL, and wait for the end."""
        self.send_signal(signal.SIGKILL)
        return await self.wait() if self._process else None

    async def _read_output(self, process: asyncio.subprocess.Process) -> None:
        if self._merge_output:
            await self._read_lines(process.stdout)
        else:
            output, _ = await asyncio.gather(_read_all(process.stdout), self._read_lines(process.stderr))
            self.output = output

    async def _read_lines(self, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None  # noqa: S101 - it is a pipe
        with self.log_file.open("ab") as log:
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
                self._last_log_lines.append(text)
                if self._on_line is not None:
                    self._on_line(text)


async def _read_all(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None  # noqa: S101 - it is a pipe
    return (await stream.read()).decode("utf-8", "replace")
