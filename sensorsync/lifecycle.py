"""How a process lives and ends: back-off, the soft and the hard stop, children that die with their parent, collector, open files."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import random
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from sensorsync.errors import ConfigurationError


class Backoff:
    """Delays between attempts: doubling from `minimum` to `maximum` seconds, with full jitter above the half.

    Pure: it neither sleeps nor reads a clock. Jitter keeps many clients from coming back in step after an outage.
    """

    def __init__(self, minimum: float, maximum: float, random_unit: Callable[[], float] = random.random) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._random_unit = random_unit
        self._attempts = 0

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        ceiling = min(self._maximum, self._minimum * 2.0 ** min(self._attempts, 32))
        self._attempts += 1
        return ceiling * (0.5 + 0.5 * self._random_unit())

    def reset(self) -> None:
        """An attempt succeeded: begin at `minimum` again."""
        self._attempts = 0


class SoftStop:
    """The first SIGTERM or SIGINT asks to stop; the second one ends the process at once, as its sender expects."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._signals = 0
        self.reason: str | None = None

    def __enter__(self) -> Self:
        for number in self.SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self.SIGNALS:
            self._loop.remove_signal_handler(number)

    def ask(self, reason: str) -> None:
        """Stop softly; only the first reason counts."""
        if not self._asked.is_set():
            self.reason = reason
            self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether somebody asked."""
        return self._asked.is_set()

    async def wait(self) -> None:
        """Return once somebody asked."""
        await self._asked.wait()

    def _on_signal(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals > 1:
            # Not sys.exit: a thread that hangs in the database must not hold up a person's second Ctrl-C.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.ask(signal.Signals(number).name)


_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when the parent (process id `parent`) dies, even by SIGKILL (Linux, prctl(2)).

    Elsewhere it does nothing; a parent then has to end its children itself.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


GC_THRESHOLD = (200_000, 20, 20)
"""See gc.set_threshold: new objects before a collection of the young, young ones before one of the middle, and so on."""


def quieten_collector() -> None:
    """Call once at the end of a start: the collector of cycles then looks at what is new, and seldom.

    By default it runs after every 700 objects and looks at all living messages again and again, tens of thousands under load. None is
    ever part of a cycle, so reference counting alone frees them; looking took a quarter to a half of the time that a message costs.
    It still runs: what does make cycles (exceptions with tracebacks, tasks) is freed later, not never.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)


def allow_open_files(count: int) -> None:
    """Let this process have `count` files and sockets open: raise its soft limit as far as the hard one lets us (setrlimit(2)).

    Raises ConfigurationError when that is not enough.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= count:
        return
    if hard != unlimited and hard < count:
        raise ConfigurationError(
            f"{count} open files are needed, and this system allows a process {hard} (ulimit -Hn)",
            hint=f"raise the hard limit: `ulimit -n {count}` as root, or LimitNOFILE= of the systemd unit, or nofile in "
            "/etc/security/limits.conf; or use fewer connections in each process",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
