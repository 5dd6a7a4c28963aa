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
from sensorsync.runtime.shutdown import SoftStop
from sensorsync.service.metrics.board import Board
from sensorsync.service.supervisor.handover import Handover
from sensorsync.service.supervisor.life import PROGRAM, End, Life, Record
from sensorsync.service.supervisor.totals import Totals

logger = logging.getLogger(__name__)

REPORT_SECONDS = 0.5
"""How often a process tells its status at least."""
RESTART_SECONDS = (0.5, 30.0)
"""The first and the longest wait before a process is started again."""
KILL_SECONDS = 10.0
"""How long after the deadline that a process keeps itself it is killed."""
STEADY_SECONDS = 60.0
"""A process that lived for so long has not crashed because of how it was started: the back-off begins anew."""
LOOP = 3
"""Crashes in a row that make a crash loop."""
_FAULTS = frozenset({ExitCode.USAGE, ExitCode.BROKER, ExitCode.DATABASE})


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it all ended."""

    exit_code: ExitCode
    problems: tuple[Problem, ...]
    restarts: int
    fault: bool
    """A process could not do its work, for a reason that only a person can mend."""


@dataclass(eq=False, slots=True)
class _Member:
    """One process over all its lives."""

    number: int
    life: Life | None = None
    """None while it does not run."""
    ever_connected: bool = False
    done: bool = False
    """It ended by itself, having done what it was asked for."""
    crashes: int = 0
    """In a row."""
    last_code: int = 0
    asked: bool = False
    """It was told to end."""
    began_to_leave: bool = False
    """Its present life began when all were told to end already."""
    backoff: Backoff = field(default_factory=lambda: Backoff(*RESTART_SECONDS))


class Supervisor:
    """Runs `settings.pipeline.processes` processes until they have ended, or `stop`.

    A process that crashes is started again with back-off, and the others go on. One that cannot do its work from the beginning (exit
    codes 2, 3, 4), or whose sessions somebody else has (6), ends them all. `changed` is called after each status.
    """

    def __init__(
        self,
        settings: Settings,
        totals: Totals,
        changed: Callable[[], None] = lambda: None,
        *,
        until_idle: float | None = None,
        max_messages: int | None = None,
        board: Board | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._settings = settings
        self._totals = totals
        self._changed = changed
        self._until_idle = until_idle
        self._max_messages = max_messages
        self._board = board or Board(settings.pipeline.processes)
        self._program = program
        self._leaves = settings.mqtt.on_stop == "leave" and not settings.mqtt.ephemeral
        self._handover = Handover(_for_process(settings), os.getpid(), until_idle).line()
        self._members = [_Member(number) for number in range(settings.pipeline.processes)]
        self._fault: tuple[ExitCode, tuple[Problem, ...]] | None = None
        self._incomplete: list[Problem] = []
        self._restarts = 0

    @property
    def running(self) -> int:
        """How many processes run and are connected."""
        return sum(member.life is not None and member.life.connected.is_set() for member in self._members)

    async def run(self, stop: SoftStop) -> Verdict:
        """Start them and return once all have ended."""
        self._stop = stop
        self._board.stopping = lambda: stop.asked
        ender = asyncio.create_task(self._end_softly())
        keepers = [asyncio.create_task(self._keep(member)) for member in self._members]
        try:
            await asyncio.gather(*keepers)
        finally:
            for task in (ender, *keepers):
                task.cancel()
            await asyncio.gather(ender, *keepers, return_exceptions=True)
        stop.ask("idle")  # nobody else asked: so they ended by themselves
        if self._fault is not None:
            return Verdict(*self._fault, self._restarts, fault=True)
        code = ExitCode.INCOMPLETE if self._incomplete else ExitCode.OK
        return Verdict(code, tuple(self._incomplete), self._restarts, fault=False)

    @property
    def _is_leaving(self) -> bool:
        """Whether the end takes the sessions' content out first."""
        return self._leaves and self._fault is None

    # -- one process ---------------------------------------------------------------------------------------------------------

    async def _keep(self, member: _Member) -> None:
        while True:
            end = await self._live(member)
            if self._is_over(member, end):
                return
            delay = member.backoff.next()
            self._report_crash(member, end, delay)
            if await self._asked_within(delay) and not self._is_leaving:
                return
            self._restarts += 1
            self._board.restarts = self._restarts

    async def _live(self, member: _Member) -> End:
        life = member.life = Life(member.number, self._handover, self._heard)
        running = asyncio.create_task(life.run(self._program))
        try:
            member.began_to_leave = self._stop.asked
            if self._stop.asked:
                self._terminate(member)
            end = await running
        finally:
            running.cancel()
            member.life = None
        self._totals.ended(member.number)
        self._board.ended(member.number)
        member.last_code = end.code
        member.ever_connected |= end.connected
        if end.seconds >= STEADY_SECONDS:
            member.backoff.reset()
            member.crashes = 0
        return end

    def _is_over(self, member: _Member, end: End) -> bool:
        """Whether that was its last life; what it means for the whole is noted."""
        if self._stop.asked:
            return self._is_over_while_stopping(member, end)
        if end.code in {ExitCode.OK, ExitCode.INCOMPLETE} and end.stopped_by == "idle":
            member.done = True
            self._incomplete += end.problems
            return True
        if self._until_idle is not None and member.crashes + 1 >= LOOP:  # a run that is meant to end
            self._incomplete.append(_problem(member, end))
            return True
        refused = end.code in _FAULTS and not member.ever_connected
        if refused or end.code == ExitCode.ALREADY_RUNNING or self._is_hopeless():
            self._fault = (_exit_code(end.code), end.problems or (_problem(member, end),))
            self._stop.ask("failure")
            return True
        return False

    def _is_over_while_stopping(self, member: _Member, end: End) -> bool:
        if self._fault is not None or end.code == ExitCode.OK:
            return True
        if self._leaves and not (end.connected or member.began_to_leave) and end.code >= 0:
            return False  # it failed on its way to its sessions: as much as one that was down, it has one life more to leave
        if end.code == ExitCode.INCOMPLETE:
            self._incomplete += end.problems or (_problem(member, end),)
        elif end.code != -signal.SIGTERM or end.connected or self._leaves:
            self._incomplete.append(_problem(member, end))
        # else it was told to end before it had begun
        return True

    def _is_hopeless(self) -> bool:
        """Nobody works any more, and none of them for a reason that goes away by itself."""
        never = not any(member.ever_connected for member in self._members)
        return all(
            member.life is None
            and (member.done or member.last_code in _FAULTS or (never and member.last_code == ExitCode.UNEXPECTED))
            for member in self._members
        )

    def _report_crash(self, member: _Member, end: End, delay: float) -> None:
        member.crashes += 1
        extra = {"process_number": member.number, "exit_code": end.code, "crashes": member.crashes}
        if member.crashes < LOOP:
            logger.error(
                "process %d %s; it is started again in %.1fs",
                member.number,
                end.words,
                delay,
                extra={"event": "process_died", **extra},
            )
        else:
            logger.critical(
                "process %d keeps crashing, %d times in a row; it %s; the others go on; next start in %.1fs",
                member.number,
                member.crashes,
                end.words,
                delay,
                extra={"event": "crash_loop", **extra},
            )

    def _heard(self, number: int, record: Record) -> None:
        if record["event"] == "connected":
            self._connected(self._members[number])
            return
        if record["event"] == "metrics":
            self._board.heard(number, record["picture"])
            return
        self._totals.heard(number, record)
        self._changed()
        if self._max_messages is not None and self._totals.settled >= self._max_messages:
            self._stop.ask("max-messages")

    def _connected(self, member: _Member) -> None:
        news = not member.ever_connected
        member.ever_connected = True
        if news and all(one.ever_connected for one in self._members):
            count = len(self._members)
            logger.info("all %d processes are connected", count, extra={"event": "all_connected", "processes": count})
        if member.asked:
            self._terminate(member)

    # -- the end -------------------------------------------------------------------------------------------------------------

    async def _end_softly(self) -> None:
        """Once asked: all get SIGTERM, and keep the deadline themselves. Leaving for good has none: it takes what it takes."""
        await self._stop.wait()
        for member in self._members:
            self._terminate(member)
        await asyncio.sleep(self._settings.pipeline.stop_timeout + KILL_SECONDS)
        for member in self._members:
            if member.life is None or (self._is_leaving and member.life.connected.is_set()):
                continue
            logger.error("process %d does not end: killed", member.number, extra={"event": "process_killed"})
            member.life.send(signal.SIGKILL)

    def _terminate(self, member: _Member) -> None:
        """Ask it to end; one that is to leave for good must have come to its sessions first."""
        member.asked = True
        if member.life is not None and (not self._is_leaving or member.life.connected.is_set()):
            member.life.send(signal.SIGTERM)

    async def _asked_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True


def _for_process(settings: Settings) -> Settings:
    """What a process gets: it tells us how it is more often than we tell people, in JSON, however quiet we are."""
    pipeline, log = settings.pipeline, settings.log
    level = log.level if log.level == "DEBUG" else "INFO"
    return settings.model_copy(
        update={
            "pipeline": pipeline.model_copy(update={"status_interval": min(pipeline.status_interval, REPORT_SECONDS)}),
            "log": log.model_copy(update={"level": level, "format": "json"}),
        }
    )


def _exit_code(code: int) -> ExitCode:
    return ExitCode(code) if code in set(ExitCode) else ExitCode.UNEXPECTED


def _problem(member: _Member, end: End) -> Problem:
    code = SensorsyncError.code if end.code == ExitCode.UNEXPECTED else IncompleteError.code
    return Problem(
        code,
        f"process {member.number} {end.words}",
        "What it had not acknowledged, the broker sends again at the next start.",
    )
