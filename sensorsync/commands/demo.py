"""`demo`: everything on this machine with nothing installed. A private broker and database, a signed load, and the audit of it.

The commands that a person would type run as children, with a configuration file of their own in a temporary folder; none of the user's
settings reaches them. What they log (JSON) is what the live view counts.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

from sensorsync.errors import ConfigurationError, ExitCode, IncompleteError, InterruptedByUser, UsageError
from sensorsync.lifecycle import SoftStop
from sensorsync.private import (
    CommandFailed,
    EmbeddedBroker,
    MosquittoBroker,
    MysqlServer,
    Record,
    Sandbox,
    envelope_failed,
    problems_of,
)
from sensorsync.result import CommandResult

STALL_SECONDS = 30.0
"""Without any progress for so long, what is not stored by then counts as lost, and the audit says which messages."""
QUIET_SECONDS = 2.0
CONNECT_SECONDS = 60.0
STOP_SECONDS = 40.0

T = TypeVar("T")
Broker = Literal["embedded", "mosquitto"]


def broker_named(name: str) -> Broker:
    """The broker that a person named. Raises UsageError."""
    for broker in get_args(Broker):
        if broker == name:
            return cast(Broker, broker)
    raise UsageError(f"There is no broker {name!r}.", hint="--broker takes embedded or mosquitto.")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    messages: int = 50_000
    broker: Broker = "embedded"
    mysql: bool = False
    """A private MariaDB or MySQL instead of SQLite."""
    file: Path | None = None
    """A recording (JSON lines) to publish instead of made-up readings."""
    keep: bool = False
    """Leave the folder where it is."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the demo is. Counts of messages."""

    stage: str
    """What is being done, in words."""
    total: int
    acked: int = 0
    """Acknowledged to the publishers."""
    stored: int = 0
    parked: int = 0
    rate: float = 0.0
    """Stored per second, lately."""


async def run(options: Options, show: Callable[[Progress], None] = lambda _: None) -> CommandResult:
    """Run the whole demo and return its outcome; `show` gets every change, on the event loop.

    Raises ConfigurationError when something is not installed or the recording can't be read, InterruptedByUser, and BrokerError or
    DatabaseError when a service doesn't start.
    """
    sandbox = Sandbox(Path(tempfile.mkdtemp(prefix="sensorsync-demo-")))
    try:
        with SoftStop() as stop:
            return await _unless_stopped(_Demo(options, sandbox, show).run(), stop)
    except CommandFailed as failure:
        where = {"folder": str(sandbox.folder)} if options.keep else {}
        return CommandResult("demo", where, failure.exit_code, failure.problems)
    finally:
        await sandbox.kill()
        if not options.keep:
            sandbox.remove()


async def _unless_stopped(work: Coroutine[Any, Any, T], stop: SoftStop) -> T:
    """The result of `work`, or InterruptedByUser once somebody asked to stop."""
    task, asked = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise InterruptedByUser
        return task.result()
    finally:
        for one in (task, asked):
            one.cancel()
        await asyncio.gather(task, asked, return_exceptions=True)


class _Subscriber:
    """What the subscriber logged: how far it is."""

    def __init__(self, changed: Callable[[Record], None]) -> None:
        self.connected = asyncio.Event()
        self.received = self.landed = self.duplicates = self.parked = self.waiting = 0
        self.moved_at = asyncio.get_running_loop().time()
        self._changed = changed

    def heard(self, record: Record) -> None:
        """One line of its log."""
        match record.get("event"):
            case "connected":
                self.connected.set()
            case "status":
                if record["received"] > self.received or record["queue_depth"] != self.waiting:
                    self.moved_at = asyncio.get_running_loop().time()
                self.received, self.waiting = record["received"], record["queue_depth"]
                self.landed, self.duplicates, self.parked = record["landed"], record["duplicates"], record["parked"]
                self._changed(record)
            case "stopped":
                self.landed, self.duplicates, self.parked = record["stored"], record["redelivered"], record["parked"]

    @property
    def distinct(self) -> int:
        """Messages that it stored for the first time, or parked."""
        return self.landed - self.duplicates + self.parked

    async def settled(self, count: int) -> None:
        """Return once `count` messages are stored or parked, or nothing moves any more."""
        loop = asyncio.get_running_loop()
        while self.distinct < count:
            quiet = loop.time() - self.moved_at
            # Messages that came twice under one key, as a recording may have them, are one row.
            if quiet > STALL_SECONDS or (
                quiet > QUIET_SECONDS and not self.waiting and self.landed + self.parked >= count
            ):
                return
            await asyncio.sleep(0.05)


class _Demo:
    def __init__(self, options: Options, sandbox: Sandbox, show: Callable[[Progress], None]) -> None:
        self._options = options
        self._sandbox = sandbox
        self._show = show
        self._total = _lines(options.file) if options.file else options.messages
        self._progress = Progress("starting", self._total)
        self._subscriber = _Subscriber(self._subscriber_moved)
        self._broker: EmbeddedBroker | MosquittoBroker
        self._broker = (EmbeddedBroker if options.broker == "embedded" else MosquittoBroker)(sandbox.folder / "broker")
        self._server = MysqlServer(sandbox.folder / "database") if options.mysql else None

    async def run(self) -> CommandResult:
        """The story, from top to bottom."""
        sandbox, loop = self._sandbox, asyncio.get_running_loop()
        await self._start_services()
        self._tell(stage="making the table")
        await self._must("init-db")
        self._tell(stage="starting the subscriber")
        subscriber = await sandbox.start_lasting("subscribe", on_record=self._subscriber.heard)
        await sandbox.while_up(self._connected())

        self._tell(stage="publishing")
        began = loop.time()
        load = ["--file", str(self._options.file.resolve())] if self._options.file else ["--messages", str(self._total)]
        published = await self._must(
            "stress-publish", *load, on_record=self._publisher_moved, tolerate=ExitCode.INCOMPLETE
        )
        self._tell(stage="waiting until all is stored", acked=published["data"]["acked"])
        await sandbox.while_up(self._subscriber.settled(published["data"]["acked"]))
        seconds = loop.time() - began
        # The subscriber first, so that its counters are final; the broker must still be there for its last acknowledgements.
        self._tell(stage="stopping the subscriber")
        await sandbox.stop_lasting(subscriber, STOP_SECONDS)

        self._tell(stage="auditing")
        audited = await self._must("audit", published["data"]["run"], tolerate=ExitCode.INCOMPLETE)
        await sandbox.stop_services()
        self._tell(stage="done")
        problems = problems_of(published) + problems_of(audited)
        data = self._data(published["data"], audited["data"], seconds)
        return CommandResult("demo", data, ExitCode.INCOMPLETE if problems else ExitCode.OK, problems)

    async def _start_services(self) -> None:
        self._tell(stage=f"starting the broker ({self._broker.label})")
        await self._sandbox.start_service(self._broker)
        if self._server is not None:
            self._tell(stage="starting the database server")
            await self._sandbox.start_service(self._server)
        self._sandbox.configure(self._settings())

    def _settings(self) -> dict[str, Any]:
        """The configuration that all children read."""
        folder, server = self._sandbox.folder, self._server
        database: dict[str, Any] = {"driver": "sqlite", "path": str(self._database)}
        if server is not None:
            socket, user = str(server.socket), server.user
            database = {"driver": "mysql", "unix_socket": socket, "user": user, "tls": {"mode": "disabled"}}
        return {
            "mqtt": {"host": "127.0.0.1", "port": self._broker.port, "instance": "demo"},
            "database": database,
            "pipeline": {"status_interval": 0.25, "status_every": 5000},
            "security": {"signatures": "required", "keys": [{"id": "demo", "secret": secrets.token_urlsafe(32)}]},
            "state_dir": str(folder / "state"),
        }

    @property
    def _database(self) -> Path:
        return self._sandbox.folder / "readings.sqlite"

    async def _must(
        self, command: str, *arguments: str, tolerate: ExitCode = ExitCode.OK, **more: Any
    ) -> dict[str, Any]:
        """The envelope of a command that succeeded, or failed as `tolerate` says. Raises CommandFailed."""
        envelope = await self._sandbox.run(command, *arguments, **more)
        if envelope["exit_code"] not in {ExitCode.OK, tolerate}:
            raise envelope_failed(envelope)
        return envelope

    async def _connected(self) -> None:
        """The embedded broker acknowledges what nobody subscribed to, and drops it: nothing is published before this returns."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._subscriber.connected.wait()
        except TimeoutError:
            raise IncompleteError(
                f"The subscriber did not connect within {CONNECT_SECONDS:g} s.",
                hint="Run again with --keep for its log.",
            ) from None

    def _data(self, published: Record, audited: Record, seconds: float) -> dict[str, Any]:
        kept = self._options.keep
        stored = audited["stored"]
        database = self._database if self._server is None else self._server.data
        return {
            "run": published["run"],
            "published": published["sent"],
            "acked": published["acked"],
            "stored": stored,
            "missing": audited["missing"],
            "redelivered": self._subscriber.duplicates,
            "parked": self._subscriber.parked,
            "seconds": round(seconds, 3),
            "published_per_second": published["throughput"],
            "stored_per_second": round(stored / seconds, 1),
            "broker": self._broker.label,
            "driver": "sqlite" if self._server is None else self._server.label,
            "folder": str(self._sandbox.folder) if kept else None,
            "database": str(database) if kept else None,
            "config": str(self._sandbox.config) if kept else None,
        }

    def _publisher_moved(self, record: Record) -> None:
        if record.get("event") == "progress":
            self._tell(acked=record["acked"])

    def _subscriber_moved(self, record: Record) -> None:
        stored = record["landed"] - record["duplicates"]
        self._tell(stored=stored, parked=record["parked"], rate=record["rate"])

    def _tell(self, **changes: Any) -> None:
        self._progress = replace(self._progress, **changes)
        self._show(self._progress)


def _lines(file: Path) -> int:
    """How many readings a recording has. Raises ConfigurationError when it can't be read."""
    try:
        with file.open("rb") as stream:
            count = sum(1 for line in stream if line.strip())
    except OSError as error:
        raise ConfigurationError(
            f"The recording {file} can't be read: {error.strerror}.", hint="Check --file."
        ) from error
    if not count:
        raise ConfigurationError(
            f"The recording {file} is empty.", hint="It must have one reading (a JSON object) per line."
        )
    return count
