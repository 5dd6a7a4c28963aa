"""The notifications to systemd of a service of `Type=notify`: sd_notify(3), datagrams to the socket in NOTIFY_SOCKET.

Without that variable no notification is sent. The protocol takes a few lines. The libraries for it are small and old, or need
libsystemd to build.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Never, Self

from sensorsync.runtime.shutdown import GracefulShutdown

POLL_INTERVAL = 0.25
"""Seconds between two checks of the state (ready, stopping)."""
STATUS_INTERVAL = 5.0
"""Seconds between two status lines when no watchdog is set."""


class SystemdNotifier:
    """The notification socket of systemd, which started this process."""

    def __init__(self, address: str, watchdog_interval: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_interval = watchdog_interval
        """Seconds between two watchdog notifications; None when no watchdog is set."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self | None:
        """Return the notifier for NOTIFY_SOCKET in the environment. None when it is not set, or not a local socket."""
        address = environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return None
        watchdog_interval = None
        if environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            with suppress(KeyError, ValueError):
                # sd_watchdog_enabled(3) recommends half of the time-out at most.
                watchdog_interval = int(environ["WATCHDOG_USEC"]) / 1e6 / 3
        return cls(address, watchdog_interval)

    def notify(self, state: str) -> None:
        """Send one or more lines NAME=value. A socket without a receiver is ignored."""
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)
            notify.sendto(state.encode(), self._address)


async def notify_loop(
    notifier: SystemdNotifier, stop: GracefulShutdown, ready: Callable[[], bool], status: Callable[[], str]
) -> Never:
    """Notify systemd of READY=1 once `ready`, of STOPPING=1 at the stop, and regularly of WATCHDOG=1, until this is cancelled.

    The watchdog notifications come from the event loop, so a process whose loop hangs sends none. `status` returns the line that
    `systemctl status` shows.
    """
    loop = asyncio.get_running_loop()
    due = loop.time()
    is_ready = is_stopping = False
    try:
        while True:
            if stop.requested and not is_stopping:
                is_stopping = True
                notifier.notify("STOPPING=1")
            elif not is_ready and not is_stopping and ready():
                is_ready = True
                notifier.notify("READY=1")
            if loop.time() >= due:
                due = loop.time() + (notifier.watchdog_interval or STATUS_INTERVAL)
                notifier.notify(f"WATCHDOG=1\nSTATUS={status()}")
            await asyncio.sleep(min(POLL_INTERVAL, notifier.watchdog_interval or POLL_INTERVAL))
    finally:
        if not is_stopping:  # the process stopped before the next check
            notifier.notify("STOPPING=1")
