"""The supervisor, which keeps N processes of one instance running and stops them together.

No message passes through it; it only reads the logs of the processes. When the supervisor dies, they die, and the broker sends their
unacknowledged messages again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sensorsync.config import Settings
from sensorsync.errors import ExitCode, IncompleteError, Problem, SensorsyncError
from sensorsync.runtime.backoff import Backoff
from sensorsync.runtime.shutdown import GracefulShutdown
from sensorsync.service.metrics.aggregator import MetricsAggregator
from sensorsync.service.supervisor.child_process import PROGRAM, ChildProcess, ExitReport, LogEntry
from sensorsync.service.supervisor.process_config import ProcessConfig
from sensorsync.service.supervisor.totals import ProcessTotals

logger = logging.getLogger(__name__)

STATUS_INTERVAL = 0.5
"""Maximum number of seconds between two status reports of a process."""
RESTART_DELAYS = (0.5, 30.0)
"""The first and the longest delay before a process is restarted, in seconds."""
KILL_DELAY = 10.0
"""Seconds after `pipeline.stop_timeout`, the deadline that a process keeps itself, at which it is killed."""
STABLE_AFTER = 60.0
"""Seconds of running after which a crash is not attributed to the start. The back-off begins again then."""
CRASH_LOOP_THRESHOLD = 3
"""The number of consecutive crashes that count as a crash loop."""
_PERMANENT_FAILURES = frozenset({ExitCode.USAGE, ExitCode.BROKER, ExitCode.DATABASE})


@dataclass(frozen=True, slots=True)
class SupervisionResult:
    """The result of the supervision, after all processes have ended."""

    exit_code: ExitCode
    problems: tuple[Problem, ...]
    restarts: int
    failed: bool
    """True when a process failed for a reason that only a person can fix."""


@dataclass(eq=False, slots=True)
class _ProcessSlot:
    """One process number, whose process may be restarted several times."""

    number: int
    child: ChildProcess | None = None
    """The process; None while it does not run."""
    ever_connected: bool = False
    finished: bool = False
    """True when it ended by itself after it had completed its work."""
    consecutive_crashes: int = 0
    last_exit_code: int = 0
    stop_requested: bool = False
    """True when it was requested to stop."""
    started_while_stopping: bool = False
    """True when its current process was started while all were being stopped."""
    backoff: Backoff = field(default_factory=lambda: Backoff(*RESTART_DELAYS))


class Supervisor:
    """A supervisor of `settings.pipeline.processes` processes, until they have ended or a stop is requested.

    A process that crashes is restarted with back-off, and the others continue. A process that fails before it has ever connected
    (exit codes 2, 3, 4), or whose sessions another program has (6), stops all of them. `on_status` is called after each status.
    """

    def __init__(
        self,
        settings: Settings,
        totals: ProcessTotals,
        on_status: Callable[[], None] = lambda: None,
        *,
        until_idle: float | None = None,
        max_messages: int | None = None,
        aggregator: MetricsAggregator | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._settings = settings
        self._totals = totals
        self._on_status = on_status
        self._until_idle = until_idle
        self._max_messages = max_messages
        self._aggregator = aggregator or MetricsAggregator(settings.pipeline.processes)
        self._program = program
        self._ends_sessions_on_stop = settings.mqtt.on_stop == "leave" and not settings.mqtt.ephemeral
        self._config_line = ProcessConfig(_child_settings(settings), os.getpid(), until_idle).to_json_line()
        self._slots = [_ProcessSlot(number) for number in range(settings.pipeline.processes)]
        self._failure: tuple[ExitCode, tuple[Problem, ...]] | None = None
        self._incomplete: list[Problem] = []
        self._restarts = 0

    @property
    def running(self) -> int:
        """The number of processes that run and are connected."""
        return sum(slot.child is not None and slot.child.connected.is_set() for slot in self._slots)

    async def run(self, stop: GracefulShutdown) -> SupervisionResult:
        """Start all processes and return once all have ended."""
        self._stop = stop
        self._aggregator.is_stopping = lambda: stop.requested
        ender = asyncio.create_task(self._stop_all())
        runners = [asyncio.create_task(self._run_with_restarts(slot)) for slot in self._slots]
        try:
            await asyncio.gather(*runners)
        finally:
            for task in (ender, *runners):
                task.cancel()
            await asyncio.gather(ender, *runners, return_exceptions=True)
        stop.request("idle")  # it counts only without an earlier request: then they ended by themselves
        if self._failure is not None:
            return SupervisionResult(*self._failure, self._restarts, failed=True)
        code = ExitCode.INCOMPLETE if self._incomplete else ExitCode.OK
        return SupervisionResult(code, tuple(self._incomplete), self._restarts, failed=False)

    @property
    def _is_ending_sessions(self) -> bool:
        """True when the stop drains the sessions and ends them."""
        return self._ends_sessions_on_stop and self._failure is None

    # -- one process ---------------------------------------------------------------------------------------------------------

    async def _run_with_restarts(self, slot: _ProcessSlot) -> None:
        while True:
            exit_report = await self._run_once(slot)
            if self._is_final_exit(slot, exit_report):
                return
            delay = slot.backoff.next_delay()
            self._report_crash(slot, exit_report, delay)
            if await self._stop_requested_within(delay) and not self._is_ending_sessions:
                return
            self._restarts += 1
            self._aggregator.restarts = self._restarts

    async def _run_once(self, slot: _ProcessSlot) -> ExitReport:
        child = slot.child = ChildProcess(slot.number, self._config_line, self._on_record)
        running = asyncio.create_task(child.run(self._program))
        try:
            slot.started_while_stopping = self._stop.requested
            if self._stop.requested:
                self._terminate(slot)
            exit_report = await running
        finally:
            running.cancel()
            slot.child = None
        self._totals.process_ended(slot.number)
        self._aggregator.process_ended(slot.number)
        slot.last_exit_code = exit_report.exit_code
        slot.ever_connected |= exit_report.connected
        if exit_report.seconds >= STABLE_AFTER:
            slot.backoff.reset()
            slot.consecutive_crashes = 0
        return exit_report

    def _is_final_exit(self, slot: _ProcessSlot, exit_report: ExitReport) -> bool:
        """Return True when the process is not to be restarted, and record the effect on the result."""
        if self._stop.requested:
            return self._is_final_exit_while_stopping(slot, exit_report)
        if exit_report.exit_code in {ExitCode.OK, ExitCode.INCOMPLETE} and exit_report.stopped_by == "idle":
            slot.finished = True
            self._incomplete += exit_report.problems
            return True
        if (
            self._until_idle is not None and slot.consecutive_crashes + 1 >= CRASH_LOOP_THRESHOLD
        ):  # a run that has to end
            self._incomplete.append(_exit_problem(slot, exit_report))
            return True
        refused = exit_report.exit_code in _PERMANENT_FAILURES and not slot.ever_connected
        if refused or exit_report.exit_code == ExitCode.ALREADY_RUNNING or self._cannot_recover():
            self._failure = (
                _exit_code(exit_report.exit_code),
                exit_report.problems or (_exit_problem(slot, exit_report),),
            )
            self._stop.request("failure")
            return True
        return False

    def _is_final_exit_while_stopping(self, slot: _ProcessSlot, exit_report: ExitReport) -> bool:
        if self._failure is not None or exit_report.exit_code == ExitCode.OK:
            return True
        if (
            self._ends_sessions_on_stop
            and not (exit_report.connected or slot.started_while_stopping)
            and exit_report.exit_code >= 0
        ):
            return False  # it failed before it had its sessions: it is restarted once to end them, as one that was down
        if exit_report.exit_code == ExitCode.INCOMPLETE:
            self._incomplete += exit_report.problems or (_exit_problem(slot, exit_report),)
        elif exit_report.exit_code != -signal.SIGTERM or exit_report.connected or self._ends_sessions_on_stop:
            self._incomplete.append(_exit_problem(slot, exit_report))
        # Otherwise it was requested to stop before it had started.
        return True

    def _cannot_recover(self) -> bool:
        """Return True when no process runs, and each has ended for a reason that does not resolve itself."""
        never = not any(slot.ever_connected for slot in self._slots)
        return all(
            slot.child is None
            and (
                slot.finished
                or slot.last_exit_code in _PERMANENT_FAILURES
                or (never and slot.last_exit_code == ExitCode.UNEXPECTED)
            )
            for slot in self._slots
        )

    def _report_crash(self, slot: _ProcessSlot, exit_report: ExitReport, delay: float) -> None:
        slot.consecutive_crashes += 1
        extra = {"process_number": slot.number, "exit_code": exit_report.exit_code, "crashes": slot.consecutive_crashes}
        if slot.consecutive_crashes < CRASH_LOOP_THRESHOLD:
            logger.error(
                "process %d %s; restart in %.1fs",
                slot.number,
                exit_report.description,
                delay,
                extra={"event": "process_died", **extra},
            )
        else:
            logger.critical(
                "process %d crashed %d times in a row; it %s; the other processes continue; next restart in %.1fs",
                slot.number,
                slot.consecutive_crashes,
                exit_report.description,
                delay,
                extra={"event": "crash_loop", **extra},
            )

    def _on_record(self, number: int, record: LogEntry) -> None:
        if record["event"] == "connected":
            self._on_connected(self._slots[number])
            return
        if record["event"] == "metrics":
            self._aggregator.update(number, record["picture"])
            return
        self._totals.update(number, record)
        self._on_status()
        if self._max_messages is not None and self._totals.settled >= self._max_messages:
            self._stop.request("max-messages")

    def _on_connected(self, slot: _ProcessSlot) -> None:
        first_time = not slot.ever_connected
        slot.ever_connected = True
        if first_time and all(one.ever_connected for one in self._slots):
            count = len(self._slots)
            logger.info("all %d processes are connected", count, extra={"event": "all_connected", "processes": count})
        if slot.stop_requested:
            self._terminate(slot)

    # -- the end -------------------------------------------------------------------------------------------------------------

    async def _stop_all(self) -> None:
        """Stop all processes with SIGTERM once a stop is requested, and kill those that miss the deadline.

        They keep the deadline themselves. There is no deadline for connected processes that end their sessions.
        """
        await self._stop.wait()
        for slot in self._slots:
            self._terminate(slot)
        await asyncio.sleep(self._settings.pipeline.stop_timeout + KILL_DELAY)
        for slot in self._slots:
            if slot.child is None or (self._is_ending_sessions and slot.child.connected.is_set()):
                continue
            logger.error(
                "process %d did not stop in time and was killed", slot.number, extra={"event": "process_killed"}
            )
            slot.child.send_signal(signal.SIGKILL)

    def _terminate(self, slot: _ProcessSlot) -> None:
        """Request a process to stop. A process that has to end its sessions gets the signal only once it is connected to them."""
        slot.stop_requested = True
        if slot.child is not None and (not self._is_ending_sessions or slot.child.connected.is_set()):
            slot.child.send_signal(signal.SIGTERM)

    async def _stop_requested_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True


def _child_settings(settings: Settings) -> Settings:
    """Return the settings of a child process.

    It reports its status more often than the supervisor logs it, in JSON, and at INFO at least even when the supervisor logs less.
    """
    pipeline, log = settings.pipeline, settings.log
    level = log.level if log.level == "DEBUG" else "INFO"
    return settings.model_copy(
        update={
            "pipeline": pipeline.model_copy(update={"status_interval": min(pipeline.status_interval, STATUS_INTERVAL)}),
            "log": log.model_copy(update={"level": level, "format": "json"}),
        }
    )


def _exit_code(code: int) -> ExitCode:
    return ExitCode(code) if code in set(ExitCode) else ExitCode.UNEXPECTED


def _exit_problem(slot: _ProcessSlot, exit_report: ExitReport) -> Problem:
    code = SensorsyncError.code if exit_report.exit_code == ExitCode.UNEXPECTED else IncompleteError.code
    return Problem(
        code,
        f"process {slot.number} {exit_report.description}",
        "What it had not acknowledged, the broker sends again at the next start.",
    )
