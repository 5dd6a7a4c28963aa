"""One process of the stress publisher: the code at the child's end of the pipe.

It receives the commands `probe`, `go` (with the time to start) and `stop`. It sends `ready`, `found`, `counts`, `done`,
`failed` and its log records.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sensorsync.config import Settings
from sensorsync.errors import ConfigurationError, SensorsyncError
from sensorsync.loadtest import GeneratedMessages, Recording, Run, Schedule, topics_for_client
from sensorsync.loadtest.counts import PublishCounts
from sensorsync.mqtt.client.options import ConnectOptions, connect_options
from sensorsync.mqtt.publisher.client import Feed
from sensorsync.mqtt.publisher.publisher import Publisher
from sensorsync.runtime.backoff import Backoff
from sensorsync.runtime.process import raise_fd_limit, set_parent_death_signal, tune_gc
from sensorsync.wiring import message_encoder, reading_decoder

_REPORT_INTERVAL_SECONDS = 0.2
_RESERVED_FDS = 64
"""Open files of a process beside its connections, with a wide margin."""


@dataclass(frozen=True, slots=True)
class PublisherTask:
    """The work of one process: to publish the shares of some clients of a run, or a recording over some connections."""

    number: int
    run: Run
    clients: range
    """Numbers of its clients in the run."""
    recording: Path | None = None
    """A file to publish instead of generated messages."""
    speed: float | None = None
    """Factor to the recording's own pace; None for as fast as possible."""


def child_main(pipe: Connection, settings: Settings, task: PublisherTask, parent: int) -> None:
    """Run the process, as its entry point. `parent` is the parent's process id."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it and sends `stop`
    set_parent_death_signal(parent)
    logging.getLogger().handlers = [_PipeHandler(pipe)]
    logging.getLogger("sensorsync").setLevel(settings.log.level)
    try:
        asyncio.run(_TaskRunner(pipe, settings, task).run())
    except SensorsyncError as error:
        pipe.send(("failed", error))
    except BrokenPipeError:
        os._exit(1)  # the parent is gone, so there is nothing to report to


class _PipeHandler(logging.Handler):
    """A handler that sends records to the parent, which has the user's log settings."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        fields = {**vars(record), "msg": record.getMessage(), "args": None, "exc_info": None}
        try:
            self._pipe.send(("log", fields))
        except OSError:
            self.handleError(record)


class _TaskRunner:
    def __init__(self, pipe: Connection, settings: Settings, task: PublisherTask) -> None:
        self._pipe = pipe
        self._settings = settings
        self._task = task
        self._commands: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        publish = settings.publish
        self._schedule = (
            Schedule(task.run.clients, publish.rate, publish.ramp) if publish.rate or publish.ramp else None
        )
        self._recording: Recording | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pipe.fileno(), self._receive)
        encoder = message_encoder(self._settings.security)
        raise_fd_limit(len(self._task.clients) + _RESERVED_FDS)
        with ExitStack() as stack:
            clients = stack.enter_context(self._open_clients())
            async with Publisher(
                clients,
                window=self._settings.publish.window,
                message_encoder=encoder,
                backoff=lambda: Backoff(self._settings.mqtt.backoff_min, self._settings.mqtt.backoff_max),
            ) as publisher:
                await publisher.connect()
                tune_gc()
                self._send("ready")
                await self._run_commands(publisher)
                self._send_counts(publisher, final=True)
                if publisher.error is not None:
                    self._pipe.send(("failed", publisher.error))
                else:
                    self._send("done")

    async def _run_commands(self, publisher: Publisher) -> None:
        """Run the commands of the parent until the work is done."""
        work: dict[str, asyncio.Task[None]] = {}
        try:
            command = asyncio.create_task(self._commands.get())
            while True:
                await asyncio.wait(
                    {command, *work.values()}, timeout=_REPORT_INTERVAL_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                self._send_counts(publisher)
                if command.done():
                    (word, content), command = command.result(), asyncio.create_task(self._commands.get())
                    if word == "stop" and "go" not in work:
                        return
                    if word == "stop":
                        publisher.stop()
                    elif word == "probe":
                        work[word] = asyncio.create_task(publisher.wait_for_subscriber())
                    else:
                        if self._schedule is not None:
                            self._schedule.start = content
                        work[word] = asyncio.create_task(publisher.publish())
                if "probe" in work and work["probe"].done():
                    work.pop("probe").result()
                    self._send("found")
                if "go" in work and work["go"].done():
                    work["go"].result()
                    return
        finally:
            for task in (command, *work.values()):
                task.cancel()
            await asyncio.gather(command, *work.values(), return_exceptions=True)

    @contextmanager
    def _open_clients(self) -> Iterator[list[tuple[ConnectOptions, Iterator[str], Feed]]]:
        task, publish = self._task, self._settings.publish
        common = connect_options(self._settings, "")
        names = [f"{self._settings.mqtt.client_id}-{task.run.client_name(client)}" for client in task.clients]
        topics = [topics_for_client(client, task.run.clients, publish.topic, publish.topics) for client in task.clients]
        # No session is needed, because unacknowledged messages are sent again by the publisher itself.
        options = [replace(common, client_id=name, clean_start=True, session_expiry=0) for name in names]
        if task.recording is None:
            feeds = [GeneratedMessages(task.run, client, self._schedule) for client in task.clients]
            yield list(zip(options, topics, feeds, strict=True))
            return
        decoder = reading_decoder(self._settings.reading)
        try:
            self._recording = Recording(task.recording, decoder, publish.topic, speed=task.speed)
        except OSError as error:
            raise ConfigurationError(
                f"the recording {task.recording} cannot be read: {error.strerror or error}", hint="check --file"
            ) from error
        try:
            yield [(one, its, self._recording) for one, its in zip(options, topics, strict=True)]
        finally:
            self._recording.close()

    def _send_counts(self, publisher: Publisher, *, final: bool = False) -> None:
        recording = self._recording
        bad_lines, bad = (recording.bad_line_count, recording.first_bad_lines) if recording else (0, [])
        counts = PublishCounts.from_stats(
            publisher.stats, publisher.window, encode_latency=final, bad_lines=bad_lines, bad=bad
        )
        self._pipe.send(("counts", counts))

    def _send(self, kind: str) -> None:
        self._pipe.send((kind, None))

    def _receive(self) -> None:
        try:
            while self._pipe.poll():
                self._commands.put_nowait(self._pipe.recv())
        except (EOFError, OSError):
            os._exit(0)  # the parent is gone, or needs nothing more
