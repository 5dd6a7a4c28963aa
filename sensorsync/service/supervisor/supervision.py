"""The supervisor: keeps N processes of one instance running, and ends them together.

It has no part in the way of the data, but reads what they log. When it dies, they die, and the broker sends again what they had not
acknowledged.
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
"""How often a process tells its status at least."""
RESTART_DELAYS = (0.5, 30.0)
"""The first and the longest wait before a process is started again."""
KILL_DELAY = 10.0
"""How long after the deadline that a process keeps itself it is killed."""
STABLE_AFTER = 60.0
"""A process that lived for so long has not crashed because of how it was started: the back-off begins anew."""
CRASH_LOOP_THRESHOLD = 3
"""Crashes in a row that make a crash loop."""
_PERMANENT_FAILURES = frozenset({ExitCode.USAGE, ExitCode.BROKER, ExitCode.DATABASE})


@dataclass(frozen=True, slots=True)
class SupervisionResult:
    """How it all ended."""

    exit_code: ExitCode
    problems: tuple[Problem, ...]
    restarts: int
    failed: bool
    """A process could not do its work, for a reason that only a person can mend."""


@dataclass(eq=False, slots=True)
class _ProcessSlot:
    """One process over all its lives."""

    number: int
    child: ChildProcess | None = None
    """None while it does not run."""
    ever_connected: bool = False
    finished: bool = False
    """It ended by itself, having done what it was asked for."""
    consecutive_crashes: int = 0
    """In a row."""
    last_exit_code: int = 0
    stop_requested: bool = False
    """It was told to end."""
    started_while_stopping: bool = False
    """Its present life began when all were told to end already."""
    backoff: Backoff = field(default_factory=lambda: Backoff(*RESTART_DELAYS))


class Supervisor:
    """Runs `settings.pipeline.processes` processes until they have ended, or `stop`.

    A process that crashes is started again with back-off, and the others go on. One that cannot do its work from the beginning (exit
    codes 2, 3, 4), or whose sessions somebody else has (6), ends them all. `changed` is called after each status.
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
        """How many processes run and are connected."""
        return sum(member.child is not None and member.child.connected.is_set() for member in self._slots)

    async def run(self, stop: GracefulShutdown) -> SupervisionResult:
        """Start them and return once all have ended."""
        self._stop = stop
        self._aggregator.is_stopping = lambda: stop.requested
        ender = asyncio.create_task(self._stop_all())
        keepers = [asyncio.create_task(self._run_with_restarts(member)) for member in self._slots]
        try:
            await asyncio.gather(*keepers)
        finally:
            for task in (ender, *keepers):
                task.cancel()
            await asyncio.gather(ender, *keepers, return_exceptions=True)
        stop.request("idle")  # nobody else asked: so they ended by themselves
        if self._failure is not None:
            return SupervisionResult(*self._failure, self._restarts, failed=True)
        code = ExitCode.INCOMPLETE if self._incomplete else ExitCode.OK
        return SupervisionResult(code, tuple(self._incomplete), self._restarts, failed=False)

    @property
    def _is_ending_sessions(self) -> bool:
        """Whether the end takes the sessions' content out first."""
        return self._ends_sessions_on_stop and self._failure is None

    # -- one process ---------------------------------------------------------------------------------------------------------

    async def _run_with_restarts(self, slot: _ProcessSlot) -> None:
        while True:
            end = await self._run_once(slot)
            if self._is_final_exit(slot, end):
                return
            delay = slot.backoff.next_delay()
            self._report_crash(slot, end, delay)
            if await self._stop_requested_within(delay) and not self._is_ending_sessions:
                return
            self._restarts += 1
            self._aggregator.restarts = self._restarts

    async def _run_once(self, slot: _ProcessSlot) -> ExitReport:
        life = slot.child = ChildProcess(slot.number, self._config_line, self._on_record)
        running = asyncio.create_task(life.run(self._program))
        try:
            slot.started_while_stopping = self._stop.requested
            if self._stop.requested:
                self._terminate(slot)
            end = await running
        finally:
            running.cancel()
            slot.child = None
        self._totals.process_ended(slot.number)
        self._aggregator.process_ended(slot.number)
        slot.last_exit_code = end.exit_code
        slot.ever_connected |= end.connected
        if end.seconds >= STABLE_AFTER:
            slot.backoff.reset()
            slot.consecutive_crashes = 0
        return end

    def _is_final_exit(self, slot: _ProcessSlot, exit_report: ExitReport) -> bool:
        """Whether that was its last life; what it means for the whole is noted."""
        if self._stop.requested:
            return self._is_final_exit_while_stopping(slot, exit_report)
        if exit_report.exit_code in {ExitCode.OK, ExitCode.INCOMPLETE} and exit_report.stopped_by == "idle":
            slot.finished = True
            self._incomplete += exit_report.problems
            return True
        if (
            self._until_idle is not None and slot.consecutive_crashes + 1 >= CRASH_LOOP_THRESHOLD
        ):  # a run that is meant to end
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
            return False  # it failed on its way to its sessions: as much as one that was down, it has one life more to leave
        if exit_report.exit_code == ExitCode.INCOMPLETE:
            self._incomplete += exit_report.problems or (_exit_problem(slot, exit_report),)
        elif exit_report.exit_code != -signal.SIGTERM or exit_report.connected or self._ends_sessions_on_stop:
            self._incomplete.append(_exit_problem(slot, exit_report))
        # else it was told to end before it had begun
        return True

    def _cannot_recover(self) -> bool:
        """Nobody works any more, and none of them for a reason that goes away by itself."""
        never = not any(member.ever_connected for member in self._slots)
        return all(
            member.child is None
            and (
                member.finished
                or member.last_exit_code in _PERMANENT_FAILURES
                or (never and member.last_exit_code == ExitCode.UNEXPECTED)
            )
            for member in self._slots
        )

    def _report_crash(self, slot: _ProcessSlot, exit_report: ExitReport, delay: float) -> None:
        slot.consecutive_crashes += 1
        extra = {"process_number": slot.number, "exit_code": exit_report.exit_code, "crashes": slot.consecutive_crashes}
        if slot.consecutive_crashes < CRASH_LOOP_THRESHOLD:
            logger.error(
                "process %d %s; it is started again in %.1fs",
                slot.number,
                exit_report.description,
                delay,
                extra={"event": "process_died", **extra},
            )
        else:
            logger.critical(
                "process %d keeps crashing, %d times in a row; it %s; the others go on; next start in %.1fs",
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
        news = not slot.ever_connected
        slot.ever_connected = True
        if news and all(one.ever_connected for one in self._slots):
            count = len(self._slots)
            logger.info("all %d processes are connected", count, extra={"event": "all_connected", "processes": count})
        if slot.stop_requested:
            self._terminate(slot)

    # -- the end -------------------------------------------------------------------------------------------------------------

    async def _stop_all(self) -> None:
        """Once asked: all get SIGTERM, and keep the deadline themselves. Leaving for good has none: it takes what it takes."""
        await self._stop.wait()
        for member in self._slots:
            self._terminate(member)
        await asyncio.sleep(self._settings.pipeline.stop_timeout + KILL_DELAY)
        for member in self._slots:
            if member.child is None or (self._is_ending_sessions and member.child.connected.is_set()):
                continue
            logger.error("process %d does not end: killed", member.number, extra={"event": "process_killed"})
            member.child.send_signal(signal.SIGKILL)

    def _terminate(self, slot: _ProcessSlot) -> None:
        """Ask it to end; one that is to leave for good must have come to its sessions first."""
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
    """What a process gets: it tells us how it is more often than we tell people, in JSON, however quiet we are."""
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
