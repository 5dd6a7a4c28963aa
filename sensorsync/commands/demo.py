"""`demo`: everything on this machine with nothing installed. A private broker and database, a signed load, and the audit of it.

The commands that a person would type run as children, with a configuration file of their own in a temporary folder; none of the user's
settings reaches them. What they log (JSON) is what the live view counts.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

from sensorsync.commands.result import CommandResult
from sensorsync.config import DatabaseSettings
from sensorsync.demo import (
    CommandFailed,
    EmbeddedBroker,
    MosquittoBroker,
    MysqlServer,
    Record,
    Sandbox,
    Service,
    Subscribers,
    envelope_failed,
    problems_of,
)
from sensorsync.demo.fault_injection import Drill
from sensorsync.errors import ExitCode, IncompleteError, InterruptedByUser, Problem, UsageError
from sensorsync.loadtest.contents import Contents
from sensorsync.runtime.shutdown import SoftStop

T = TypeVar("T")
S = TypeVar("S")
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
    drill: bool = False
    """Break things under load."""


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
    fault: str | None = None
    """What was broken last."""


async def run(options: Options, show: Callable[[Progress], None] = lambda _: None) -> CommandResult:
    """Run the whole demo and return its outcome; `show` gets every change, on the event loop.

    Raises ConfigurationError when something is not installed or the recording can't be read, InterruptedByUser, and BrokerError or
    DatabaseError when a service doesn't start.
    """
    if options.drill and options.file is not None:
        raise UsageError("--drill makes its own load: an audit must know every message.", hint="Leave out --file.")
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


async def _both(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, S]) -> tuple[T, S]:
    """The results of both; when one fails the other is given up."""
    one, two = asyncio.create_task(first), asyncio.create_task(second)
    try:
        return await asyncio.gather(one, two)
    finally:
        one.cancel()
        two.cancel()
        await asyncio.gather(one, two, return_exceptions=True)


class _Demo:
    def __init__(self, options: Options, sandbox: Sandbox, show: Callable[[Progress], None]) -> None:
        self._options = options
        self._sandbox = sandbox
        self._show = show
        self._recording = Contents.read(options.file) if options.file else None
        self._total = self._recording.readings if self._recording else options.messages
        self._problems: list[Problem] = []
        self._began = 0.0
        self._progress = Progress("starting", self._total)
        # rumqttd's router panics when the last member of a group goes away with something unacknowledged: so there are two of them.
        # With two links, one that is killed would lose what one of them held: so it has one.
        self._fragile = options.drill and options.broker == "embedded"
        instances = ["one", "two"] if self._fragile else ["demo"]
        self._subscribers = Subscribers(sandbox, instances, self._subscriber_moved)
        self._drill: Drill | None = None
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
        for instance in self._subscribers.instances:
            await self._subscribers.start(instance)

        self._tell(stage="publishing")
        self._began = loop.time()
        published = await (self._publish_under_attack() if self._options.drill else self._publish())
        seconds = loop.time() - self._began
        # The subscriber first, so that its counters are final; the broker must still be there for its last acknowledgements.
        self._tell(stage="stopping the subscriber")
        await self._subscribers.stop()

        arrived = await self._audited(published)
        await sandbox.stop_services()
        self._tell(stage="done", stored=arrived["stored"])
        data = self._data(published, arrived, seconds)
        return CommandResult(
            "demo", data, ExitCode.INCOMPLETE if self._problems else ExitCode.OK, tuple(self._problems)
        )

    async def _publish(self) -> Record:
        """Return once everything is published and stored; what the publisher reports."""
        report: Record = (await self._must("stress-publish", *self._load(), on_record=self._publisher_moved))["data"]
        self._tell(stage="waiting until all is stored", acked=report["acked"])
        wanted = self._recording.keys if self._recording else report["acked"]
        await self._sandbox.while_up(self._subscribers.settled(wanted))
        return report

    async def _publish_under_attack(self) -> Record:
        """The same, while things are broken."""
        run = f"drill-{secrets.token_hex(4)}"
        database = DatabaseSettings.model_validate(self._settings()["database"])
        services: dict[str, Service] = {} if self._server is None else {"database": self._server}
        if isinstance(self._broker, MosquittoBroker):  # the embedded one keeps nothing
            services["broker"] = self._broker
        published = asyncio.Event()

        async def publish() -> Record:
            words = ("stress-publish", *self._load(), "--run", run)
            envelope = await self._must(*words, on_record=self._publisher_moved)
            published.set()
            self._tell(acked=envelope["data"]["acked"])
            return envelope

        drill = self._drill = Drill(
            self._sandbox,
            self._subscribers,
            database,
            run,
            self._total,
            services=services,
            published=published.is_set,
            fragile=self._fragile,
            tell=lambda fault: self._tell(stage=fault, fault=fault),
        )
        envelope, _ = await _both(publish(), self._sandbox.while_up(drill.provoke()))
        if drill.left_out:
            words = f"the load was over before the drill had all its faults: {', '.join(drill.left_out)}"
            self._problems.append(Problem(IncompleteError.code, words, "Use more --messages."))
        report: Record = envelope["data"]
        return report

    async def _start_services(self) -> None:
        self._tell(stage="starting the broker")
        await self._sandbox.start_service(self._broker)
        if self._server is not None:
            self._tell(stage="starting the database server")
            await self._sandbox.start_service(self._server)
        self._sandbox.configure(self._settings())

    def _settings(self) -> dict[str, Any]:
        """The configuration that all children read."""
        folder, server = self._sandbox.folder, self._server
        # In small steps, so that a fault meets many batches under way, and the load is not over before the last one.
        pace = {"batch_size": 20, "workers": 1} if self._options.drill else {}
        links = {"connections": 1} if self._fragile else {}
        database: dict[str, Any] = {"driver": "sqlite", "path": str(self._database)}
        if server is not None:
            socket, user = str(server.socket), server.user
            database = {"driver": "mysql", "unix_socket": socket, "user": user, "tls": {"mode": "disabled"}}
        return {
            "mqtt": {"host": "127.0.0.1", "port": self._broker.port, "backoff_max": 2.0, **links},
            "database": {**database, "wait_for_database": True},
            "pipeline": {"status_interval": 0.25, "status_every": 5000, "backoff_max": 1.0, **pace},
            "security": {"signatures": "required", "keys": [{"id": "demo", "secret": secrets.token_urlsafe(32)}]},
            "state_dir": str(folder / "state"),
        }

    @property
    def _database(self) -> Path:
        return self._sandbox.folder / "readings.sqlite"

    def _load(self) -> list[str]:
        file = self._options.file
        return ["--file", str(file.resolve())] if file else ["--messages", str(self._total)]

    async def _audited(self, published: Record) -> Record:
        """How many messages are stored and how many are missing."""
        self._tell(stage="auditing")
        if self._recording is None:
            report: Record = (await self._must("audit", published["run"]))["data"]
            return report
        # Made-up readings say of which run they are, recorded ones do not. But the database told which rows were new.
        parked = self._subscribers.parked
        missing = max(0, self._recording.keys - self._subscribers.new_rows - parked)
        if missing:
            words = f"{missing:,} of {published['sent']:,} readings of the recording did not arrive"
            self._problems.append(Problem(IncompleteError.code, words, "Run again with --keep for all logs."))
        return {"stored": published["sent"] - missing - parked, "missing": missing}

    async def _must(self, command: str, *arguments: str, on_record: Callable[[Record], None] | None = None) -> Record:
        """The envelope of a command that did its work, though it may have ended incomplete. Raises CommandFailed."""
        envelope = await self._sandbox.run(command, *arguments, on_record=on_record)
        if not envelope["data"] or envelope["exit_code"] not in {ExitCode.OK, ExitCode.INCOMPLETE}:
            raise envelope_failed(envelope)
        self._problems += problems_of(envelope)
        return envelope

    def _data(self, published: Record, arrived: Record, seconds: float) -> dict[str, Any]:
        kept = self._options.keep
        database = self._database if self._server is None else self._server.data
        return {
            "run": published["run"],
            "published": published["sent"],
            "acked": published["acked"],
            "stored": arrived["stored"],
            "missing": arrived["missing"],
            "redelivered": self._subscribers.duplicates,
            "parked": self._subscribers.parked,
            "seconds": round(seconds, 3),
            "published_per_second": published["throughput"],
            "stored_per_second": round(arrived["stored"] / seconds, 1),
            "broker": self._broker.label,
            "driver": "sqlite" if self._server is None else self._server.label,
            **({"faults": [asdict(fault) for fault in self._drill.faults]} if self._drill else {}),
            "folder": str(self._sandbox.folder) if kept else None,
            "database": str(database) if kept else None,
            "config": str(self._sandbox.config) if kept else None,
        }

    def _publisher_moved(self, record: Record) -> None:
        if record.get("event") == "progress":
            if not record["sent"]:  # its processes are only starting and connecting
                self._began = asyncio.get_running_loop().time()
            self._tell(acked=record["acked"])

    def _subscriber_moved(self) -> None:
        log = self._subscribers
        self._tell(stored=log.new_rows, parked=log.parked, rate=log.rate)

    def _tell(self, **changes: Any) -> None:
        self._progress = replace(self._progress, **changes)
        self._show(self._progress)
