"""The processes of the stress publisher: the parent starts, monitors and commands them, and merges their counts.

One event loop cannot use two cores, and signing costs as much as publishing. Children are spawned, not forked (the
parent has threads). They die with the parent, and send everything through one pipe each, including their log records.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from sensorsync.config import Settings
from sensorsync.errors import IncompleteError, SensorsyncError
from sensorsync.loadtest.counts import PublishCounts
from sensorsync.loadtest.process import PublisherTask, child_main

logger = logging.getLogger(__name__)

_JOIN_TIMEOUT_SECONDS = 5.0
_STOP_TIMEOUT_SECONDS = 3.0


class PublisherDied(IncompleteError):
    """A publishing process died."""

    code = "publisher_died"


class _PublisherProcess:
    """One process, seen from the parent."""

    def __init__(self, settings: Settings, task: PublisherTask, on_change: Callable[[], None]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.task = task
        self.counts = PublishCounts()
        self.error: SensorsyncError | None = None
        self.state = "starting"
        """One of starting, ready, found (a subscriber), done and failed."""
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self.process = context.Process(
            target=child_main, args=(theirs, settings, task, os.getpid()), daemon=True, name=f"publisher-{task.number}"
        )
        self.process.start()
        theirs.close()
        self._loop.add_reader(self.pipe.fileno(), self._receive)

    @property
    def ended(self) -> bool:
        return self.state in {"done", "failed"}

    def send_command(self, command: str, content: object = None) -> None:
        """Send one command with its content. A dead child is detected elsewhere."""
        try:
            self.pipe.send((command, content))
        except OSError:
            logger.debug("publisher %d is gone: the command was not sent", self.task.number)

    async def close(self) -> None:
        """End the process with a stop command, and kill it when it does not end in time."""
        self._loop.remove_reader(self.pipe.fileno())
        if self.state != "starting":  # so that it disconnects from the broker
            self.send_command("stop")
            await asyncio.to_thread(self.process.join, _STOP_TIMEOUT_SECONDS)
        self.pipe.close()  # it exits when it reads the end of the stream
        await asyncio.to_thread(self.process.join, _JOIN_TIMEOUT_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            await asyncio.to_thread(self.process.join)
        self.process.close()

    def _receive(self) -> None:
        try:
            while self.pipe.poll():
                self._handle_message(*self.pipe.recv())
        except (EOFError, OSError):
            self._loop.remove_reader(self.pipe.fileno())
            if not self.ended:
                self.process.join(_JOIN_TIMEOUT_SECONDS)
                self.error = PublisherDied(
                    f"publishing process {self.task.number} died (exit code {self.process.exitcode})",
                    hint="what it had sent is counted, what it would have sent is not",
                )
                self.state = "failed"
        self._on_change()

    def _handle_message(self, kind: str, content: Any) -> None:
        match kind:
            case "log":
                logger.handle(logging.makeLogRecord(content))
            case "counts":
                self.counts = content
            case "failed":
                self.error, self.state = content, "failed"
            case _:
                self.state = kind


class PublisherProcesses:
    """The publishing processes. `async with` starts them, waits until all are connected, and ends them.

    Entering raises the BrokerError or ConfigurationError of the first child that fails.
    """

    def __init__(self, settings: Settings, tasks: Sequence[PublisherTask]) -> None:
        self._settings = settings
        self._tasks = tasks
        self._processes: list[_PublisherProcess] = []
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        with _signal_ignored(signal.SIGINT):
            for task in self._tasks:
                self._processes.append(_PublisherProcess(self._settings, task, self._changed.set))
        try:
            await self._wait_until(lambda child: child.state != "starting")
        except BaseException:
            await self.__aexit__()
            raise
        failed = next((child.error for child in self._processes if child.error), None)
        if failed is not None:
            await self.__aexit__()
            raise failed
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(child.close() for child in self._processes))
        self._processes = []

    @property
    def counts(self) -> PublishCounts:
        """The counts of all processes together, as of their last report."""
        return PublishCounts.total(child.counts for child in self._processes)

    @property
    def counts_by_process(self) -> tuple[PublishCounts, ...]:
        """The counts of each process, as of its last report."""
        return tuple(child.counts for child in self._processes)

    @property
    def errors(self) -> list[SensorsyncError]:
        """The errors that ended processes early."""
        return [child.error for child in self._processes if child.error]

    async def wait_for_subscriber(self) -> None:
        """Return once the topic has a subscriber, or the first process has failed."""
        first = self._processes[0]
        first.send_command("probe")
        await self._wait_until(lambda child: child is not first or child.state != "ready")

    async def publish(self, start: float, on_progress: Callable[[PublishCounts], None]) -> None:
        """Publish everything; `start` (Unix time in seconds) is the start of the schedule for all processes.

        `on_progress` is called with the counts several times a second. See `errors` afterwards.
        """
        for child in self._processes:
            child.send_command("go", start)
        await self._wait_until(lambda child: child.ended, lambda: on_progress(self.counts))

    def stop(self) -> None:
        """Command the processes to publish nothing new, wait for the outstanding answers, and report."""
        for child in self._processes:
            child.send_command("stop")

    async def _wait_until(
        self, condition: Callable[[_PublisherProcess], bool], on_change: Callable[[], None] = lambda: None
    ) -> None:
        while not all(map(condition, self._processes)):
            await self._changed.wait()
            self._changed.clear()
            on_change()


@contextmanager
def _signal_ignored(number: signal.Signals) -> Iterator[None]:
    """Ignore a signal, also in the children that are started meanwhile, because they inherit that.

    A Ctrl-C on the terminal must reach the parent alone, even while a child starts.
    """
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)
