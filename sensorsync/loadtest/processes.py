"""The processes of the stress publisher: started, watched, asked, and their counts merged.

One event loop can't use two cores, and signing costs as much as publishing. Children are spawned, not forked (the parent has threads),
die with the parent, and say everything through one pipe each, their log records too.
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
from sensorsync.loadtest.counts import Counts
from sensorsync.loadtest.process import Job, child_main

logger = logging.getLogger(__name__)

_JOIN_SECONDS = 5.0
_GOODBYE_SECONDS = 3.0


class ChildDied(IncompleteError):
    """A publishing process died."""

    code = "publisher_died"


class _Child:
    """One process, seen from the parent."""

    def __init__(self, settings: Settings, job: Job, changed: Callable[[], None]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.job = job
        self.counts = Counts()
        self.error: SensorsyncError | None = None
        self.state = "starting"
        """starting, ready, found (a subscriber), done, failed"""
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self.process = context.Process(
            target=child_main, args=(theirs, settings, job, os.getpid()), daemon=True, name=f"publisher-{job.number}"
        )
        self.process.start()
        theirs.close()
        self._loop.add_reader(self.pipe.fileno(), self._read)

    @property
    def ended(self) -> bool:
        return self.state in {"done", "failed"}

    def ask(self, word: str, content: object = None) -> None:
        """Send one word with its content; a dead child is noticed elsewhere."""
        try:
            self.pipe.send((word, content))
        except OSError:
            logger.debug("publisher %d takes no more orders", self.job.number)

    async def close(self) -> None:
        """End the process, softly at first."""
        self._loop.remove_reader(self.pipe.fileno())
        if self.state != "starting":  # let it say goodbye to the broker
            self.ask("stop")
            await asyncio.to_thread(self.process.join, _GOODBYE_SECONDS)
        self.pipe.close()  # it leaves when it reads the end
        await asyncio.to_thread(self.process.join, _JOIN_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            await asyncio.to_thread(self.process.join)
        self.process.close()

    def _read(self) -> None:
        try:
            while self.pipe.poll():
                self._heard(*self.pipe.recv())
        except (EOFError, OSError):
            self._loop.remove_reader(self.pipe.fileno())
            if not self.ended:
                self.process.join(_JOIN_SECONDS)
                self.error = ChildDied(
                    f"publishing process {self.job.number} died (exit code {self.process.exitcode})",
                    hint="what it had sent is counted, what it would have sent is not",
                )
                self.state = "failed"
        self._changed()

    def _heard(self, word: str, content: Any) -> None:
        match word:
            case "log":
                logger.handle(logging.makeLogRecord(content))
            case "counts":
                self.counts = content
            case "failed":
                self.error, self.state = content, "failed"
            case _:
                self.state = word


class Fleet:
    """The publishing processes. `async with` starts them and waits until all are connected, and ends them.

    Entering raises BrokerError or ConfigurationError, whichever the first child that fails has met.
    """

    def __init__(self, settings: Settings, jobs: Sequence[Job]) -> None:
        self._settings = settings
        self._jobs = jobs
        self._children: list[_Child] = []
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        with _ignored(signal.SIGINT):
            for job in self._jobs:
                self._children.append(_Child(self._settings, job, self._news.set))
        try:
            await self._until(lambda child: child.state != "starting")
        except BaseException:
            await self.__aexit__()
            raise
        failed = next((child.error for child in self._children if child.error), None)
        if failed is not None:
            await self.__aexit__()
            raise failed
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(child.close() for child in self._children))
        self._children = []

    @property
    def counts(self) -> Counts:
        """All processes' counts together, as of their last report."""
        return Counts.total(child.counts for child in self._children)

    @property
    def counts_by_process(self) -> tuple[Counts, ...]:
        """The same, each process for itself."""
        return tuple(child.counts for child in self._children)

    @property
    def errors(self) -> list[SensorsyncError]:
        """What cut the work of processes short."""
        return [child.error for child in self._children if child.error]

    async def probe(self) -> None:
        """Return once somebody is subscribed to the topic, or the first process failed."""
        first = self._children[0]
        first.ask("probe")
        await self._until(lambda child: child is not first or child.state != "ready")

    async def publish(self, start: float, progress: Callable[[Counts], None]) -> None:
        """Publish everything, what has a time by `start` (Unix time in seconds), which is one for all processes.

        `progress` gets the counts some times a second. See `errors` afterwards.
        """
        for child in self._children:
            child.ask("go", start)
        await self._until(lambda child: child.ended, lambda: progress(self.counts))

    def stop(self) -> None:
        """Send nothing new, take the answers to what is under way, report."""
        for child in self._children:
            child.ask("stop")

    async def _until(self, holds: Callable[[_Child], bool], each: Callable[[], None] = lambda: None) -> None:
        while not all(map(holds, self._children)):
            await self._news.wait()
            self._news.clear()
            each()


@contextmanager
def _ignored(number: signal.Signals) -> Iterator[None]:
    """A child inherits what is ignored: a Ctrl-C on the terminal must reach the parent alone, even while a child starts."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)
