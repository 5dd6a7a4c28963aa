"""The graceful and the immediate stop of a process."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Self


class GracefulShutdown:
    """A request to stop. The first SIGTERM or SIGINT makes it; the second one ends the process at once, as its sender expects."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._requested = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._signal_count = 0
        self.reason: str | None = None

    def __enter__(self) -> Self:
        for number in self.SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self.SIGNALS:
            self._loop.remove_signal_handler(number)

    def request(self, reason: str) -> None:
        """Request a graceful stop. Only the first reason counts."""
        if not self._requested.is_set():
            self.reason = reason
            self._requested.set()

    @property
    def requested(self) -> bool:
        """True once a stop was requested."""
        return self._requested.is_set()

    async def wait(self) -> None:
        """Return once a stop is requested."""
        await self._requested.wait()

    def _on_signal(self, signum: signal.Signals) -> None:
        self._signal_count += 1
        if self._signal_count > 1:
            # Not sys.exit, because a thread that hangs in the database must not delay the end after a second Ctrl-C.
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        self.request(signal.Signals(signum).name)
