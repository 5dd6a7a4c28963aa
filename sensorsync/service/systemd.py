"""What systemd is told by a service of `Type=notify`: sd_notify(3), datagrams to the socket that NOTIFY_SOCKET names.

Without that variable nothing is told to anybody. The protocol is a few lines, and the libraries for it are older than they are long,
or need libsystemd to build.
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
"""How often it is looked whether we are ready, or stopping."""
STATUS_INTERVAL = 5.0
"""Seconds between two status lines when nobody waits for signs of life."""


class SystemdNotifier:
    """The one who started us and wants to hear how we are."""

    def __init__(self, address: str, watchdog_interval: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_interval = watchdog_interval
        """Seconds between two signs of life; None when nobody waits for any."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self | None:
        """Whoever the environment names. None when nobody does, or not by a socket of this machine."""
        address = environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return None
        beat = None
        if environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            with suppress(KeyError, ValueError):
                beat = int(environ["WATCHDOG_USEC"]) / 1e6 / 3  # sd_watchdog_enabled(3): half of it at the latest
        return cls(address, beat)

    def notify(self, state: str) -> None:
        """Send one or more lines NAME=value. One who does not listen is not our trouble."""
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)
            notify.sendto(state.encode(), self._address)


async def notify_loop(
    notifier: SystemdNotifier, stop: GracefulShutdown, ready: Callable[[], bool], status: Callable[[], str]
) -> Never:
    """READY=1 once `ready`, STOPPING=1 once asked to stop, and all the while signs of life with `status`; until it is cancelled.

    The signs of life come from the event loop: one that hangs sends none. `status` is the line that `systemctl status` shows.
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
        if not is_stopping:  # it was over before we looked
            notifier.notify("STOPPING=1")
