"""The `demo` command, which runs a private broker and database, a signed load and its audit, with nothing installed.

The commands that a person would type run as children, with a configuration file of their own in a temporary folder.
None of the user's settings reaches them. The live view gets its counts from their JSON logs.
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
    JsonObject,
    MosquittoBroker,
    MysqlServer,
    Sandbox,
    Service,
    Subscribers,
    failure_from_envelope,
    problems_from_envelope,
)
from sensorsync.demo.fault_injection import FaultInjection
from sensorsync.errors import ExitCode, IncompleteError, InterruptedByUser, Problem, UsageError
from sensorsync.loadtest.recording_summary import RecordingSummary
from sensorsync.runtime.shutdown import GracefulShutdown

T = TypeVar("T")
S = TypeVar("S")
Broker = Literal["embedded", "mosquitto"]


def parse_broker(name: str) -> Broker:
    """Return the broker that a person named. Raises UsageError."""
    for broker in get_args(Broker):
        if broker == name:
            return cast(Broker, broker)
    raise UsageError(f"There is no broker {name!r}.", hint="--broker takes embedded or mosquitto.")


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options of the command line."""

    messages: int = 50_000
    broker: Broker = "embedded"
    mysql: bool = False
    """True for a private MariaDB or MySQL instead of SQLite."""
    file: Path | None = None
    """A recording (JSON lines) to publish instead of generated readings."""
    keep: bool = False
    """True to leave the folder in place at the end."""
    drill: bool = False
    """True to inject faults under load."""


@dataclass(frozen=True, slots=True)
class DemoProgress:
    """The progress of the demo, in counts of messages."""

    stage: str
    """The current step, in words."""
    total: int
    acked: int = 0
    """Messages that were acknowledged to the publishers."""
    stored: int = 0
    parked: int = 0
    rate: float = 0.0
    """Messages stored per second, as of the last report."""
    fault: str | None = None
    """The latest fault that was injected."""


async def run(options: DemoOptions, on_progress: Callable[[DemoProgress], None] = lambda _: None) -> CommandResult:
    """Run the whole demo and return its result; `on_progress` is called with every change, on the event loop.

    Raises ConfigurationError when something is not installed or the recording cannot be read, InterruptedByUser, and
    BrokerError or DatabaseError when a service does not start.
    """
    if options.drill and options.file is not None:
        raise UsageError("--drill makes its own load: an audit must know every message.", hint="Leave out --file.")
    sandbox = Sandbox(Path(tempfile.mkdtemp(prefix="sensorsync-demo-")))
    try:
        with GracefulShutdown() as stop:
            return await _run_unless_stopped(_Demo(options, sandbox, on_progress).run(), stop)
    except CommandFailed as failure:
        where = {"folder": str(sandbox.folder)} if options.keep else {}
        return CommandResult("demo", where, failure.exit_code, failure.problems)
    finally:
        await sandbox.kill()
        if not options.keep:
            sandbox.remove()


async def _run_unless_stopped(work: Coroutine[Any, Any, T], stop: GracefulShutdown) -> T:
    """Return the result of `work`. Raises InterruptedByUser when a stop is requested before it ends."""
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


async def _run_both(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, S]) -> tuple[T, S]:
    """Return the results of both coroutines; when one fails, cancel the other."""
    one, two = asyncio.create_task(first), asyncio.create_task(second)
    try:
        return await asyncio.gather(one, two)
    finally:
        one.cancel()
        two.cancel()
        await asyncio.gather(one, two, return_exceptions=True)


class _Demo:
    def __init__(self, options: DemoOptions, sandbox: Sandbox, on_progress: Callable[[DemoProgress], None]) -> None:
        self._options = options
        self._sandbox = sandbox
        self._on_progress = on_progress
        self._recording = RecordingSummary.read(options.file) if options.file else None
        self._total = self._recording.readings if self._recording else options.messages
        self._problems: list[Problem] = []
        self._started_at = 0.0
        self._progress = DemoProgress("starting", self._total)
        # rumqttd's router panics when the last member of a group disconnects with unacknowledged messages, so there are
        # two members. A member with two links that is killed would lose what one of them held, so it has one link.
        self._drills_embedded_broker = options.drill and options.broker == "embedded"
        instances = ["one", "two"] if self._drills_embedded_broker else ["demo"]
        self._subscribers = Subscribers(sandbox, instances, self._on_subscriber_status)
        self._fault_injection: FaultInjection | None = None
        self._broker: EmbeddedBroker | MosquittoBroker
        self._broker = (EmbeddedBroker if options.broker == "embedded" else MosquittoBroker)(sandbox.folder / "broker")
        self._database_server = MysqlServer(sandbox.folder / "database") if options.mysql else None

    async def run(self) -> CommandResult:
        """Run the steps of the demo from first to last."""
        sandbox, loop = self._sandbox, asyncio.get_running_loop()
        await self._start_services()
        self._update_progress(stage="making the table")
        await self._run_command("init-db")
        self._update_progress(stage="starting the subscriber")
        for instance in self._subscribers.instances:
            await self._subscribers.start(instance)

        self._update_progress(stage="publishing")
        self._started_at = loop.time()
        published = await (self._publish_with_faults() if self._options.drill else self._publish())
        seconds = loop.time() - self._started_at
        # The subscriber stops first, so that its counters are final. The broker must still run for its last
        # acknowledgements.
        self._update_progress(stage="stopping the subscriber")
        await self._subscribers.stop()

        arrived = await self._audit(published)
        await sandbox.stop_services()
        self._update_progress(stage="done", stored=arrived["stored"])
        data = self._result_data(published, arrived, seconds)
        return CommandResult(
            "demo", data, ExitCode.INCOMPLETE if self._problems else ExitCode.OK, tuple(self._problems)
        )

    async def _publish(self) -> JsonObject:
        """Publish everything, wait until it is stored, and return the report of the publisher."""
        report: JsonObject = (
            await self._run_command("stress-publish", *self._publish_arguments(), on_record=self._on_publisher_record)
        )["data"]
        self._update_progress(stage="waiting until all is stored", acked=report["acked"])
        wanted = self._recording.distinct_keys if self._recording else report["acked"]
        await self._sandbox.run_while_monitored(self._subscribers.wait_until_settled(wanted))
        return report

    async def _publish_with_faults(self) -> JsonObject:
        """Publish as `_publish` does, while faults are injected."""
        run = f"drill-{secrets.token_hex(4)}"
        database = DatabaseSettings.model_validate(self._settings()["database"])
        services: dict[str, Service] = {} if self._database_server is None else {"database": self._database_server}
        if isinstance(self._broker, MosquittoBroker):  # the embedded one keeps nothing over a restart
            services["broker"] = self._broker
        published = asyncio.Event()

        async def publish() -> JsonObject:
            words = ("stress-publish", *self._publish_arguments(), "--run", run)
            envelope = await self._run_command(*words, on_record=self._on_publisher_record)
            published.set()
            self._update_progress(acked=envelope["data"]["acked"])
            return envelope

        injection = self._fault_injection = FaultInjection(
            self._sandbox,
            self._subscribers,
            database,
            run,
            self._total,
            services=services,
            all_published=published.is_set,
            embedded_broker=self._drills_embedded_broker,
            on_fault=lambda fault: self._update_progress(stage=fault, fault=fault),
        )
        envelope, _ = await _run_both(publish(), self._sandbox.run_while_monitored(injection.run()))
        if injection.skipped:
            words = f"the load was over before the drill had all its faults: {', '.join(injection.skipped)}"
            self._problems.append(Problem(IncompleteError.code, words, "Use more --messages."))
        report: JsonObject = envelope["data"]
        return report

    async def _start_services(self) -> None:
        self._update_progress(stage="starting the broker")
        await self._sandbox.start_service(self._broker)
        if self._database_server is not None:
            self._update_progress(stage="starting the database server")
            await self._sandbox.start_service(self._database_server)
        self._sandbox.configure(self._settings())

    def _settings(self) -> dict[str, Any]:
        """Return the configuration that all children read."""
        folder, server = self._sandbox.folder, self._database_server
        # The steps are small, so that a fault hits many batches in flight and the load does not end before the last
        # fault.
        pace = {"batch_size": 20, "workers": 1} if self._options.drill else {}
        links = {"connections": 1} if self._drills_embedded_broker else {}
        database: dict[str, Any] = {"driver": "sqlite", "path": str(self._sqlite_file)}
        if server is not None:
            socket, user = str(server.socket_path), server.user
            database = {"driver": "mysql", "unix_socket": socket, "user": user, "tls": {"mode": "disabled"}}
        return {
            "mqtt": {"host": "127.0.0.1", "port": self._broker.port, "backoff_max": 2.0, **links},
            "database": {**database, "wait_for_database": True},
            "pipeline": {"status_interval": 0.25, "status_every": 5000, "backoff_max": 1.0, **pace},
            "security": {"signatures": "required", "keys": [{"id": "demo", "secret": secrets.token_urlsafe(32)}]},
            "state_dir": str(folder / "state"),
        }

    @property
    def _sqlite_file(self) -> Path:
        return self._sandbox.folder / "readings.sqlite"

    def _publish_arguments(self) -> list[str]:
        file = self._options.file
        return ["--file", str(file.resolve())] if file else ["--messages", str(self._total)]

    async def _audit(self, publish_report: JsonObject) -> JsonObject:
        """Return the numbers of stored and of missing messages."""
        self._update_progress(stage="auditing")
        if self._recording is None:
            report: JsonObject = (await self._run_command("audit", publish_report["run"]))["data"]
            return report
        # Generated readings contain the id of their run, recorded ones do not. But the subscriber counted the new rows.
        parked = self._subscribers.parked
        missing = max(0, self._recording.distinct_keys - self._subscribers.new_rows - parked)
        if missing:
            words = f"{missing:,} of {publish_report['sent']:,} readings of the recording did not arrive"
            self._problems.append(Problem(IncompleteError.code, words, "Run again with --keep for all logs."))
        return {"stored": publish_report["sent"] - missing - parked, "missing": missing}

    async def _run_command(
        self, command: str, *arguments: str, on_record: Callable[[JsonObject], None] | None = None
    ) -> JsonObject:
        """Run a command and return its envelope, also when it ended incomplete.

        Raises CommandFailed when it did not do its work.
        """
        envelope = await self._sandbox.run(command, *arguments, on_record=on_record)
        if not envelope["data"] or envelope["exit_code"] not in {ExitCode.OK, ExitCode.INCOMPLETE}:
            raise failure_from_envelope(envelope)
        self._problems += problems_from_envelope(envelope)
        return envelope

    def _result_data(self, publish_report: JsonObject, audit_result: JsonObject, seconds: float) -> dict[str, Any]:
        kept = self._options.keep
        database = self._sqlite_file if self._database_server is None else self._database_server.data_dir
        return {
            "run": publish_report["run"],
            "published": publish_report["sent"],
            "acked": publish_report["acked"],
            "stored": audit_result["stored"],
            "missing": audit_result["missing"],
            "redelivered": self._subscribers.redelivered_rows,
            "parked": self._subscribers.parked,
            "seconds": round(seconds, 3),
            "published_per_second": publish_report["throughput"],
            "stored_per_second": round(audit_result["stored"] / seconds, 1),
            "broker": self._broker.label,
            "driver": "sqlite" if self._database_server is None else self._database_server.label,
            **({"faults": [asdict(fault) for fault in self._fault_injection.faults]} if self._fault_injection else {}),
            "folder": str(self._sandbox.folder) if kept else None,
            "database": str(database) if kept else None,
            "config": str(self._sandbox.config_file) if kept else None,
        }

    def _on_publisher_record(self, record: JsonObject) -> None:
        if record.get("event") == "progress":
            if not record["sent"]:  # its processes are still starting and connecting
                self._started_at = asyncio.get_running_loop().time()
            self._update_progress(acked=record["acked"])

    def _on_subscriber_status(self) -> None:
        log = self._subscribers
        self._update_progress(stored=log.new_rows, parked=log.parked, rate=log.rate)

    def _update_progress(self, **changes: Any) -> None:
        self._progress = replace(self._progress, **changes)
        self._on_progress(self._progress)
