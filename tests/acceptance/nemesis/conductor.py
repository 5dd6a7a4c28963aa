"""The conductor: it carries a plan out, heals everything, and has the end checked."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.acceptance.nemesis.broker import Broker
from tests.acceptance.nemesis.deeds import Deeds
from tests.acceptance.nemesis.evidence import Connect, Evidence
from tests.acceptance.nemesis.judge import Judge
from tests.acceptance.nemesis.messages import UNSTORABLE, Fate, Stream
from tests.acceptance.nemesis.plan import HASTY, Action, Deed, Plan
from tests.acceptance.nemesis.proxy import DatabaseProxy
from tests.acceptance.nemesis.report import Report, check_letters, check_log, check_rows
from tests.acceptance.nemesis.subscriber import EXPECTED_EXITS, SENSORSYNC, Subscriber, settings
from tests.services import free_port

DRAIN_SECONDS = 90.0
"""Everything is stored, parked and acknowledged so long after all is healed."""
_START_SECONDS = 40.0
_MOST_WAITING = 500
"""Messages that wait in the broker at most: what a run publishes has to be drained at its end."""
_RESTART_SECONDS = 0.3
_FULL_BOX_SECONDS = 3.0
_TICK = 0.02


@dataclass(frozen=True, slots=True)
class Target:
    """A database with the tables and accounts of sensorsync. `connect` opens a connection of an administrator in it."""

    name: str
    port: int
    environment: Mapping[str, str]
    connect: Connect


_INCOMPLETE = 5
"""The exit code of a subscriber that has left messages to the broker."""


class Conductor:
    """Runs one plan in `folder`. `program`: the words that run sensorsync."""

    def __init__(self, plan: Plan, target: Target, folder: Path, *, program: Sequence[str] = SENSORSYNC) -> None:
        self._plan = plan
        self._target = target
        rng = random.Random(plan.seed + 1)
        began = time.monotonic()
        self._box = folder / "box" / "dead-letters.sqlite"
        self._box.parent.mkdir(mode=0o700)
        self._evidence = Evidence(target.connect, self._box)
        self.judge = Judge(self._evidence, lambda: time.monotonic() - began)
        combination = plan.combination
        self._broker = Broker(free_port(), self.judge, rng, window=combination.window, ids=combination.ids)
        self._proxy = DatabaseProxy(free_port(), target.port, random.Random(plan.seed + 2))
        self._stream = Stream(random.Random(plan.seed + 3), poison=plan.poison, copies=plan.copies, big=plan.big)
        environment = settings(
            combination,
            broker=self._broker.port,
            database={**target.environment, "DB_PORT": str(self._proxy.port)},
            box=self._box,
        )
        names = [f"n{number}" for number in range(combination.instances)]
        self._subscribers = [Subscriber(name, environment, folder, program) for name in names]
        self._off: set[Subscriber] = set()
        """Ended by us, and not to be started yet."""
        self._deeds = Deeds(self._broker, self._proxy, self._box, target.connect)
        self._counts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._healing = False
        self._failure: BaseException | None = None
        self._published = 0
        """Messages that the plan called for so far."""
        self.report = Report(plan.seed, asdict(combination), target.name)

    async def run(self, *, until_violation: bool = False) -> Report:
        """Carry the plan out; with `until_violation` end at the first one, with nothing drained."""
        began = time.monotonic()
        self._deeds.sql(
            f"ALTER TABLE sensor_readings ADD CONSTRAINT nemesis CHECK (value IS NULL OR value <> {UNSTORABLE})"
        )
        async with AsyncExitStack() as stack:
            stack.callback(self._evidence.close)
            await stack.enter_async_context(self._broker)
            await stack.enter_async_context(self._proxy)
            stack.callback(self._kill_all)
            try:
                await self._start()
                await self._storm(until_violation=until_violation)
                self.report.acks_under_fire = self.judge.judged
                await self._heal()
                if not (until_violation and self.judge.counts):
                    await self._drain()
                    await self._end()
                    self._check()
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                self._fill_report(time.monotonic() - began)
        return self.report

    # -- phases ------------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Start the subscribers, and wait until one of them is subscribed."""
        for subscriber in self._subscribers:
            subscriber.start(small_box=self._plan.small_box)
        deadline = time.monotonic() + _START_SECONDS
        while not self._broker.groups:
            if time.monotonic() > deadline or not all(subscriber.running for subscriber in self._subscribers):
                raise RuntimeError(f"no subscriber came:\n{self._subscribers[0].log.read_text()[-3000:]}")
            await asyncio.sleep(_TICK)

    async def _storm(self, *, until_violation: bool) -> None:
        plan = self._plan
        self._broker.faults, self._proxy.faults = plan.broker, plan.database
        began, due = time.monotonic(), list(plan.actions)
        while (now := time.monotonic() - began) < plan.seconds:
            while due and due[0].at <= now:
                self._begin(due.pop(0))
            due_by_now = int(now * plan.rate)
            for _ in range(min(due_by_now - self._published, _MOST_WAITING - self._waiting())):
                self._broker.publish(self._stream.next())
            self._published = due_by_now
            self._watch()
            if until_violation and self.judge.counts:
                return
            await asyncio.sleep(_TICK)

    async def _heal(self) -> None:
        """No faults from now on; what was ended or stands still runs again."""
        self._healing = True
        self._broker.calm()
        self._proxy.calm()
        if self._tasks:
            await asyncio.wait(set(self._tasks))  # each ends what it began
        for subscriber in self._subscribers:
            if subscriber.small_box:
                await subscriber.stop()
            if not subscriber.running:
                subscriber.reap()
                subscriber.start()

    async def _drain(self) -> None:
        """Wait until nothing is unacknowledged and all are back. Sessions of processes that are gone expire meanwhile."""
        deadline = time.monotonic() + DRAIN_SECONDS
        next_expiry = time.monotonic() + 2.0
        while (left := self._waiting()) + len(away := self._away()):
            if time.monotonic() > deadline:
                break
            if time.monotonic() > next_expiry:
                self._broker.expire_sessions()
                next_expiry = time.monotonic() + 1.0
            self._watch()
            await asyncio.sleep(_TICK)
        if left:
            some = ", ".join(message.label for _, message in zip(range(5), self._broker.outstanding(), strict=False))
            self.judge.report("stuck", f"{left} messages are unacknowledged {DRAIN_SECONDS:g} s after the end: {some}")
        elif away:
            self.judge.report("away", f"{', '.join(away)} did not come back within {DRAIN_SECONDS:g} s")

    def _away(self) -> list[str]:
        """Name the subscribers that are not connected: one that still starts would be ended by its SIGTERM at once."""
        return [subscriber.name for subscriber in self._subscribers if not self._broker.serves(subscriber.name)]

    async def _end(self) -> None:
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        codes = await asyncio.gather(*(subscriber.stop() for subscriber in self._subscribers))
        for subscriber, code in zip(self._subscribers, codes, strict=True):
            # A copy from a lost connection may still be set aside when its redelivery is stored: exit 5 says that it is left.
            left_a_copy = code == _INCOMPLETE and '"event": "set_aside"' in subscriber.log.read_text(errors="replace")
            if code != 0 and not left_a_copy:
                self.judge.report("unclean_end", f"{subscriber.name} ended with {code} after SIGTERM")

    def _check(self) -> None:
        rows, letters, made = self._evidence.rows(), self._evidence.letters(), self._stream.made
        check_rows(self.judge, rows, made, may_revise=self._plan.combination.conflict != "first")
        check_letters(self.judge, letters, made)
        self.report.rows, self.report.letters = len(rows), letters.total()

    def _fill_report(self, seconds: float) -> None:
        report, made = self.report, self._stream.made
        events: Counter[str] = Counter()
        exits: Counter[str] = Counter()
        for subscriber in self._subscribers:
            events += check_log(self.judge, subscriber.log)
            exits += subscriber.exits
        report.seconds = round(seconds, 1)
        report.published = self._broker.counts["routed"]
        report.good = sum(message.fate is Fate.STORED for message in made)
        report.poison = len(made) - report.good
        report.acks_judged = self.judge.judged
        report.broker = dict(self._broker.counts)
        report.injected = dict(sorted(self._proxy.counts.items()))
        report.deeds, report.exits, report.log_events = dict(self._counts), dict(exits), dict(events)
        report.violation_counts, report.violations = dict(self.judge.counts), self.judge.violations

    # -- one tick ----------------------------------------------------------------------------------------------------------

    def _waiting(self) -> int:
        return sum(1 for _ in self._broker.outstanding())

    def _watch(self) -> None:
        """Start again what ended by itself, as a service manager does, and judge how it ended. Raises what failed in us."""
        if self._failure is not None:
            raise self._failure
        for subscriber in self._subscribers:
            if subscriber in self._off or subscriber.running:
                continue
            code = subscriber.reap()
            if code is not None and code not in EXPECTED_EXITS:
                self.judge.report("crash", f"{subscriber.name} ended by itself with {code}")
            self._off.add(subscriber)
            self._keep(self._start_later(subscriber, _RESTART_SECONDS))

    def _kill_all(self) -> None:
        for subscriber in self._subscribers:
            subscriber.kill()

    # -- deeds -------------------------------------------------------------------------------------------------------------

    def _begin(self, action: Action) -> None:
        self._counts[action.deed] += 1
        if action.deed in {Deed.KILL, Deed.STOP, Deed.SMALL_BOX}:
            subscriber = self._subscribers[action.target % len(self._subscribers)]
            self._keep(self._end_one(subscriber, action.deed, action.seconds, hasty=action.target >= HASTY))
        elif action.deed is Deed.FLOOD:
            self._flood()
        else:
            self._keep(self._deeds.do(action))

    def _flood(self) -> None:
        for message in self._stream.flood():
            self._broker.publish(message)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._failure = self._failure or task.exception()

    async def _end_one(self, subscriber: Subscriber, deed: Deed, seconds: float, *, hasty: bool) -> None:
        """End a subscriber and start it again. One that has only just begun is let in first, unless we are hasty."""
        while not (hasty or self._healing or self._broker.serves(subscriber.name)):  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(_TICK)
        if subscriber in self._off or (self._healing and deed is not Deed.STOP):
            return
        self._off.add(subscriber)
        if deed is Deed.KILL:
            subscriber.kill()
        else:
            await subscriber.stop()
        await self._start_later(subscriber, seconds, small_box=deed is Deed.SMALL_BOX)
        if deed is Deed.SMALL_BOX:
            self._flood()
            await asyncio.sleep(_FULL_BOX_SECONDS)  # nothing gets on meanwhile
            if subscriber.small_box:
                await self._end_one(subscriber, Deed.STOP, 0.0, hasty=True)

    async def _start_later(self, subscriber: Subscriber, seconds: float, *, small_box: bool = False) -> None:
        await asyncio.sleep(seconds)
        subscriber.start(small_box=small_box)
        self._off.discard(subscriber)
