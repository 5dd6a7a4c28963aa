"""A child process that is started, monitored and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sensorsync.demo import parent_death

MAX_LINE_BYTES = 1 << 20
"""Bytes of a line that is read from a child, at most."""


def child_environment(
    environ: Mapping[str, str], excluded: frozenset[str], prefix: str = "SENSORSYNC_"
) -> dict[str, str]:
    """Return `environ` without the names in `excluded` and all that begin with `prefix`.

    No setting of the user reaches the child.
    """
    return {name: value for name, value in environ.items() if name not in excluded and not name.startswith(prefix)}


class Child:
    """A program in a session of its own, so that a Ctrl-C of the terminal reaches only us. It is killed when we die.

    Its standard error, or with `merge_output` both outputs, is read line by line. Each line is written to `log_file`
    and passed to `on_line`, and the last ones are in `last_log_lines`. Without `merge_output`, `output` is all that it
    wrote to standard output, once it has ended.
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
        """The process id, None before the start."""
        return self._process.pid if self._process else None

    @property
    def returncode(self) -> int | None:
        """The exit code, None while the process runs. A negative code is the signal that ended it."""
        return self._process.returncode if self._process else None

    @property
    def last_log_lines(self) -> list[str]:
        """The last lines of its log."""
        return list(self._last_log_lines)

    async def start(self) -> None:
        """Start the program. This must be called on the main thread.

        The kernel kills the child when the thread that started it ends.
        """
        launcher = [sys.executable, "-I", "-S", str(parent_death.__file__), str(os.getpid())]
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
        """Return the exit code once the process has ended and all its output is read."""
        assert self._process is not None and self._reader_task is not None  # noqa: PT018, S101 - it was started
        await asyncio.shield(self._reader_task)
        return await self._process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, timeout: float) -> int | None:
        """Send SIGTERM, and SIGKILL after `timeout` seconds; return the exit code, None if it never ran."""
        if self._process is None:
            return None
        self.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout):
                return await self.wait()
        except TimeoutError:
            return await self.kill()

    async def kill(self) -> int | None:
        """Send SIGKILL and wait for the end."""
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
                except ValueError:  # longer than the limit: a part of it is lost, the next lines are complete again
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
