"""A health probe of an external dependency. It has its own thread, because the check may hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Final, Self

from sensorsync.service.metrics.definitions import Values

CHECK_TIMEOUT: Final = 5.0
"""Seconds that a check may take."""
_MIN_PAUSE_FACTOR: Final = 20
"""A slow check (counting a million letters) runs less often: it takes at most about a twentieth of the time."""


class HealthProbe:
    """A thread that calls `check` every `interval` seconds. It is a context manager, and the thread ends with it.

    `check` returns values for the aggregator. The exception that it raises is the problem. While it takes longer than `timeout`
    seconds, that is the problem. `close` closes the resources that it has opened, in the same thread.
    """

    def __init__(
        self,
        check_name: str,
        check: Callable[[], Values],
        *,
        interval: float,
        timeout: float = CHECK_TIMEOUT,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.check_name = check_name
        self.values: Values = {}
        self._check = check
        self._close = close
        self._interval = interval
        self._timeout = timeout
        self._problem: str | None = "not looked at yet"
        self._check_started: float | None = None
        self._stop_event = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{check_name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_event.set()
        self._thread.join(1.0)  # a thread that hangs is abandoned: it is a daemon

    def problem(self) -> str | None:
        """Return the problem of the latest check, None when it passed. Any thread may call this."""
        began = self._check_started
        if began is not None and (waited := monotonic() - began) > self._timeout:
            return f"no answer for {waited:.0f}s"
        return self._problem

    def _run(self) -> None:
        while not self._stop_event.is_set():
            self._check_started = began = monotonic()
            pause = self._interval
            try:
                self.values = self._check()
            except Exception as error:  # noqa: BLE001 - any exception is the result of the check
                self._problem = str(error) or type(error).__name__
            else:
                self._problem = None
                pause = max(pause, _MIN_PAUSE_FACTOR * (monotonic() - began))
            self._check_started = None
            self._stop_event.wait(pause)
        self._close()
