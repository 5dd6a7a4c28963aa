"""The load of a drill, told step by step."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.drills.pace import Pace
from tests.commands import Background, Commands
from tests.fakes import InThread

_PATIENCE = 120.0
_GLANCE = 0.04


class Load:
    """Messages on their way: a publisher, and a subscriber that may end and begin again."""

    def __init__(self, commands: Commands, log: Path, messages: int, stored: Callable[[], int]) -> None:
        self.publisher: Background | None = None
        self.pace: InThread[Pace] | None = None
        self._commands = commands
        self._log = log
        self._log.touch()
        self._messages = messages
        self._stored = stored
        self._subscriber: Background | None = None
        self._mark = 0

    @property
    def subscriber(self) -> Background:
        """The one that runs, or ran last."""
        assert self._subscriber is not None, "not started"
        return self._subscriber

    # -- the story -----------------------------------------------------------------------------------------------------

    def start(self, *words: str, **changes: object) -> None:
        """Start a subscriber, with changed settings from now on; return once it is subscribed."""
        if self._subscriber is not None:
            assert not self._subscriber.running, "there is one already"
            self._subscriber.kill()
        self._mark_here()
        self._commands.environment |= {name: str(value) for name, value in changes.items()}
        self._subscriber = self._commands.start(self._log, "subscribe", *words)
        self.says("connected")

    def reaches(self, rows: int) -> None:
        """Return once so many rows are stored, up to a half: the moment for a fault. The other half comes when it is waited for."""
        assert rows < self._messages // 2
        self._wait(lambda: self._stored() >= rows, f"{rows} rows")
        self._mark_here()

    def stores(self, rows: int) -> None:
        """Return once so many rows are stored."""
        self.waits(lambda: self._stored() >= rows, f"{rows} rows")

    def goes_on(self, messages: int) -> None:
        """Return once the broker has taken so many more from the publisher: the subscriber gets them."""
        pace = self.pace
        assert pace is not None, "not started"
        wanted = pace.do(lambda one: one.passed) + messages
        self.waits(lambda: pace.do(lambda one: one.passed) >= wanted, f"{messages} messages")

    def says(self, event: str, *, times: int = 1, **fields: object) -> list[dict[str, Any]]:
        """Return once the subscriber has logged `event`, with these fields, so many times since it last reached a point."""
        found: list[dict[str, Any]] = []

        def enough() -> bool:
            found[:] = [e for e in self._since() if e["event"] == event and fields.items() <= e.items()]
            return len(found) >= times

        self.waits(enough, f"{times} times {event} {fields or ''}", alive=event != "stopped")
        return found

    def ends(self, exit_code: int) -> None:
        """Return once the subscriber has ended by itself, in this way."""
        self.waits(lambda: not self.subscriber.running, "the end of the subscriber", alive=False)
        assert self.subscriber.finish().exit_code == exit_code, self._tail()

    def insists(self, number: signal.Signals) -> None:
        """Send the subscriber this signal, again and again, until it has died of it."""

        def again() -> bool:
            self.subscriber.send(number)
            return not self.subscriber.running

        self.waits(again, "the end of the subscriber", alive=False)
        self.ends(-number)

    @contextmanager
    def publisher_cut_off(self) -> Iterator[None]:
        """For as long as the block lasts, the publisher cannot connect again."""
        assert self.pace is not None, "not started"
        self.pace.set(refusing=True)
        yield
        self.pace.do(lambda pace: pace.heal())

    def kill(self) -> None:
        """`kill -9` of whatever runs."""
        for process in (self._subscriber, self.publisher):
            if process is not None:
                process.kill()

    def stops(self, number: signal.Signals = signal.SIGTERM, exit_code: int = 0) -> dict[str, Any]:
        """Ask the subscriber to stop; returns what it reports at its end."""
        self._mark_here()
        self.subscriber.send(number)
        self.ends(exit_code)
        return self.says("stopped")[-1]

    def publishes(self) -> dict[str, Any]:
        """Return once everything is published, as the publisher reports it."""
        assert self.publisher is not None, "not started"
        self._go_on()
        return self.publisher.finish(_PATIENCE).data

    def finishes(self, *, parked: int = 0) -> dict[str, Any]:
        """Return once everything is published and stored or parked, and the subscriber has stopped softly; its report."""
        published = self.publishes()
        assert published["acked"] == self._messages, published
        self.stores(self._messages - parked)
        stopped = self.stops()
        assert stopped["unacknowledged"] == 0, stopped
        return stopped

    def waits(self, condition: Callable[[], bool], what: str, *, alive: bool = True) -> None:
        """Return once `condition()` holds; meanwhile the subscriber must live on, unless it need not be `alive`."""
        self._go_on()
        self._wait(condition, what, alive=alive)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        if self.pace is not None:
            self.pace.do(lambda pace: pace.go_on())

    def _wait(self, condition: Callable[[], bool], what: str, *, alive: bool = True) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert not alive or self.subscriber.running, f"the subscriber ended before {what}:\n{self._tail()}"
            assert time.monotonic() < deadline, f"not within {_PATIENCE:g} s: {what}\n{self._tail()}"
            time.sleep(_GLANCE)

    def _mark_here(self) -> None:
        self._mark = self._log.stat().st_size

    def _since(self) -> list[dict[str, Any]]:
        with self._log.open() as log:
            log.seek(self._mark)
            return [json.loads(line) for line in log if line.startswith("{") and line.endswith("}\n")]

    def _tail(self) -> str:
        return self._log.read_text()[-6000:]
