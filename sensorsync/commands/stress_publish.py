"""The `stress-publish` command: a load from many clients in many processes, with the outcome of every message counted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from sensorsync.commands.result import CommandResult
from sensorsync.config import Settings
from sensorsync.config.checks import broker_cleartext_credentials, database_cleartext_credentials
from sensorsync.errors import ExitCode, InterruptedByUser, Problem, UsageError
from sensorsync.loadtest import AuditReport, Run, new_run_id
from sensorsync.loadtest.audit import audit, audit_problem, wait_for_rows
from sensorsync.loadtest.counts import PublishCounts
from sensorsync.loadtest.process import PublisherTask
from sensorsync.loadtest.processes import PublisherProcesses
from sensorsync.mqtt.client.causes import cause_of_reason_code
from sensorsync.runtime.shutdown import GracefulShutdown
from sensorsync.storage.open import database_errors, open_store
from sensorsync.storage.store import Store
from sensorsync.wiring import message_encoder, signing_key

COMMAND = "stress-publish"
logger = logging.getLogger(__name__)
_START_DELAY_SECONDS = 0.1
"""Delay of an open loop's schedule in seconds, so that every process receives it in time."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StressPublishOptions:
    """The options of the command line that are not settings."""

    verify: bool = False
    """True to wait for a subscriber, publish, wait for the rows and audit them."""
    file: Path | None = None
    """A recording (one reading per line) to publish instead of generated readings."""
    speed: float | None = None
    """Factor to the recording's own pace; None for as fast as possible."""
    run: str | None = None
    """The id of the run; with None a new one is generated."""


@dataclass(frozen=True, slots=True)
class PublishProgress:
    """The progress of a run."""

    stage: str
    """The current step, in words."""
    run: str
    total: int | None
    """Messages to publish; None when the number is not known (a recording)."""
    sent: int = 0
    acked: int = 0
    not_acked: int = 0
    """Messages that were answered, but without a subscriber or with a failure."""
    rate: float = 0.0
    """Messages answered per second, since the start."""
    stored: int | None = None
    """Rows in the database, while `--verify` waits for them."""
    counts: PublishCounts = field(default_factory=PublishCounts)
    """All counts, of all processes together."""
    processes: tuple[PublishCounts, ...] = ()
    """The counts of each process."""


ProgressCallback = Callable[[PublishProgress], None]


async def run(
    settings: Settings, options: StressPublishOptions, on_progress: ProgressCallback = lambda _: None
) -> CommandResult:
    """Publish the load and return its outcome; `on_progress` is called with every change, on the event loop.

    Raises ConfigurationError, BrokerError when no client could connect, DatabaseError (with `verify`), and
    InterruptedByUser before the first message is sent.
    """
    if options.file is not None and options.verify:
        raise UsageError("--verify audits made-up readings, and --file publishes recorded ones.", hint="Leave one out.")
    if options.speed is not None and options.file is None:
        raise UsageError("--speed is the pace of a recording.", hint="Give one with --file.")
    if options.file is not None and (made_up := _generated_only_settings(settings)):
        words = f"{', '.join(made_up)}: that is for made-up readings, and --file publishes recorded ones as they stand."
        raise UsageError(words, hint="Leave it out; --speed gives a recording its pace.")
    _check_keys(settings)
    for warning in (
        *broker_cleartext_credentials(settings),
        *(database_cleartext_credentials(settings) if options.verify else ()),
    ):
        logger.warning("%s", warning, extra={"event": "clear_text"})
    if options.verify and settings.mqtt.protocol == "3.1.1":
        words = "MQTT 3.1.1 does not report whether a topic has subscribers: --verify does not wait for one"
        logger.warning("%s", words, extra={"event": "no_probe"})
    return await _StressPublish(settings, options, on_progress).run()


class _StressPublish:
    def __init__(self, settings: Settings, options: StressPublishOptions, on_progress: ProgressCallback) -> None:
        self._settings = settings
        self._options = options
        self._on_progress = on_progress
        self._tasks = _make_tasks(settings, options)
        self._run = self._tasks[0].run
        self._total = None if options.file else self._run.messages
        self._progress = PublishProgress("connecting", self._run.id, self._total)
        self._started_at = self._schedule_start = self._duration = 0.0
        self._interrupted = False

    async def run(self) -> CommandResult:
        store = await self._open_store() if self._options.verify else None
        try:
            self._update_progress()
            async with PublisherProcesses(self._settings, self._tasks) as publishers:
                with GracefulShutdown() as stop:
                    await self._publish(publishers, stop)
                    counts, problems = publishers.counts, [Problem.from_error(error) for error in publishers.errors]
                    report = await self._verify(store, counts, stop) if store and not self._interrupted else None
            return self._result(counts, problems, report)
        finally:
            if store is not None:
                store.close()

    async def _open_store(self) -> Store:
        with database_errors():
            store = open_store(self._settings.database)
            await asyncio.to_thread(store.check_schema)
            return store

    async def _publish(self, publishers: PublisherProcesses, stop: GracefulShutdown) -> None:
        if self._options.verify:
            self._update_progress(stage="waiting for a subscriber")
            await _run_until_stop(publishers.wait_for_subscriber(), stop)
            if stop.requested:
                raise InterruptedByUser
        self._update_progress(stage="publishing")
        lead = _START_DELAY_SECONDS if self._settings.publish.rate else 0.0
        self._started_at, self._schedule_start = time.monotonic() + lead, time.time() + lead
        publishing = asyncio.create_task(
            publishers.publish(
                self._schedule_start, lambda counts: self._update_counts(counts, publishers.counts_by_process)
            )
        )
        await _run_until_stop(asyncio.shield(publishing), stop)
        if stop.requested:
            self._interrupted = True
            self._update_progress(stage="stopping")
            publishers.stop()
        await publishing
        self._duration = max(0.0, time.monotonic() - self._started_at)
        self._update_counts(publishers.counts, publishers.counts_by_process)

    async def _verify(self, store: Store, counts: PublishCounts, stop: GracefulShutdown) -> AuditReport | None:
        self._update_progress(stage="waiting for the rows")
        with database_errors():
            waiting = wait_for_rows(store, self._run.id, counts.acked, lambda rows: self._update_progress(stored=rows))
            await _run_until_stop(waiting, stop)
            if stop.requested:
                self._interrupted = True
                return None
            self._update_progress(stage="auditing")
            return await asyncio.to_thread(audit, store, self._settings, self._run.id, self._run)

    def _update_counts(self, counts: PublishCounts, processes: tuple[PublishCounts, ...]) -> None:
        rate = round(counts.answered / max(_START_DELAY_SECONDS, time.monotonic() - self._started_at), 1)
        not_acked = counts.answered - counts.acked
        self._update_progress(
            sent=counts.sent, acked=counts.acked, not_acked=not_acked, rate=rate, counts=counts, processes=processes
        )

    def _update_progress(self, **changes: Any) -> None:
        self._progress = replace(self._progress, **changes)
        self._on_progress(self._progress)

    # -- the outcome ---------------------------------------------------------------------------------------------------

    def _result(self, counts: PublishCounts, problems: list[Problem], report: AuditReport | None) -> CommandResult:
        mqtt, publish = self._settings.mqtt, self._settings.publish
        answered = counts.answered
        messages = self._total if self._total is not None else counts.sent + counts.bad_lines
        data: dict[str, Any] = {
            "run": None if self._options.file else self._run.id,
            "messages": messages,
            "processes": len(self._tasks),
            "clients": sum(len(task.clients) for task in self._tasks),
            "topic": publish.topic,
            "topics": publish.topics,
            "devices": self._run.devices,
            "payload_size": publish.payload_size or None,
            "ramp": publish.ramp or None,
            "broker": f"{mqtt.host}:{mqtt.port}",
            "signed": self._settings.security.signing_key_settings is not None,
            "encrypted": self._settings.security.encryption_key_settings is not None,
            "duration": round(self._duration, 3),
            "throughput": round(answered / self._duration, 1) if self._duration else 0.0,
            "rate": publish.rate,
            "achieved": self._achieved_rate(counts),
            "sent": counts.sent,
            "acked": counts.acked,
            "no_subscriber": counts.no_subscriber,
            "failed": counts.failed,
            "unacknowledged": counts.sent - answered,
            "retransmitted": counts.retransmitted,
            "reconnects": counts.reconnects,
            "reason_codes": {f"0x{code:02X}": count for code, count in sorted(counts.reasons.items())},
            "latency_ms": counts.latency_ms(),
        }
        if self._options.file:
            lines = [{"line": bad.number, "reason": bad.reason, "message": bad.message} for bad in counts.bad]
            data |= {"file": str(self._options.file), "bad_lines": counts.bad_lines, "first_bad_lines": lines}
        if report is not None:
            data |= {
                "stored": report.messages_stored,
                "missing": report.missing,
                "parked": report.parked,
                "audit": report.as_data(),
            }
        problems += self._find_problems(counts, messages)
        if report is not None and not report.complete:
            problems.append(audit_problem(report))
        return CommandResult(COMMAND, data, ExitCode.INCOMPLETE if problems else ExitCode.OK, tuple(problems))

    def _achieved_rate(self, counts: PublishCounts) -> float | None:
        """Return the messages per second that were sent in an open loop; None for a closed one.

        Up to the last message there is one interval less than there are messages.
        """
        seconds = counts.last_sent - self._schedule_start
        return round((counts.sent - 1) / seconds, 1) if self._settings.publish.rate and seconds > 0 else None

    def _find_problems(self, counts: PublishCounts, messages: int) -> list[Problem]:
        found = []
        if self._interrupted:
            found.append(Problem.from_error(InterruptedByUser()))
        if counts.bad_lines:
            first = ", ".join(str(bad.number) for bad in counts.bad)
            more = ", ..." if counts.bad_lines > len(counts.bad) else ""
            words = f"{counts.bad_lines:,} lines are no readings and were not published: line {first}{more}"
            found.append(
                Problem("bad_lines", words, "each would have been parked; see docs/reference/message-format.md")
            )
        if counts.no_subscriber:
            words = f"{counts.no_subscriber:,} messages had no subscriber (0x10): the broker dropped them"
            found.append(
                Problem(
                    "no_subscriber", words, "start `sensorsync subscribe` first, or use --verify, which waits for it"
                )
            )
        found += [
            Problem(
                "refused",
                f"{count:,} messages were refused: {cause_of_reason_code(code).description} (0x{code:02X})",
                cause_of_reason_code(code).hint,
            )
            for code, count in sorted(counts.reasons.items())
            if code >= 0x80
        ]
        silent = messages - counts.bad_lines - counts.answered
        if silent > 0:
            words = (
                f"{silent:,} of {messages:,} messages are not acknowledged ({messages - counts.sent:,} were never sent)"
            )
            found.append(Problem("unacknowledged", words, "look at the broker, and at the errors above"))
        return found


def _make_tasks(settings: Settings, options: StressPublishOptions) -> list[PublisherTask]:
    """Divide the clients among the processes. Raises UsageError for an impossible run."""
    publish = settings.publish
    run_id = options.run or new_run_id()
    try:
        if options.file is not None:
            run = Run(run_id, 1, publish.clients)
            return [PublisherTask(0, run, range(publish.clients), options.file, options.speed)]
        clients = min(publish.messages, publish.processes * publish.clients)
        run = Run(run_id, publish.messages, clients, publish.devices, publish.payload_size)
    except ValueError as error:
        raise UsageError(str(error)) from error
    starts = range(0, clients, publish.clients)
    return [
        PublisherTask(number, run, range(at, min(clients, at + publish.clients))) for number, at in enumerate(starts)
    ]


def _generated_only_settings(settings: Settings) -> list[str]:
    """Return the names of settings that are set and that a recording cannot use."""
    names = ("rate", "ramp", "payload_size", "topics", "devices")
    return [f"publish.{name}" for name in names if getattr(settings.publish, name)]


def _check_keys(settings: Settings) -> None:
    """Load the keys before any process is started. Raises ConfigurationError when one cannot be read or is wrong."""
    message_encoder(settings.security)
    key = signing_key(settings.security)
    if key is not None and key.weakness is not None:
        logger.warning("%s", key.weakness, extra={"event": "weak_key"})


async def _run_until_stop(work: Coroutine[Any, Any, T] | asyncio.Future[T], stop: GracefulShutdown) -> T | None:
    """Return the result of `work`, or None when a stop is requested before it ends."""
    task, asked = asyncio.ensure_future(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        asked.cancel()
        await asyncio.gather(task, asked, return_exceptions=True)
