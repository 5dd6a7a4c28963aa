"""The notifications to systemd of a service of `Type=notify`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensorsync.runtime.shutdown import GracefulShutdown
from sensorsync.service.systemd import SystemdNotifier, notify_loop


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.setblocking(False)
        yield server


async def told(server: socket.socket, *lines: str) -> None:
    """Return once all these lines have been received, in this order."""
    wanted = list(lines)
    async with asyncio.timeout(5):
        while wanted:
            heard = (await asyncio.get_running_loop().sock_recv(server, 4096)).decode().splitlines()
            if wanted[0] in heard:
                wanted.pop(0)


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "tcp://somewhere"])
def test_without_a_local_notify_socket_there_is_no_notifier(address: str) -> None:
    assert SystemdNotifier.from_environment({"NOTIFY_SOCKET": address}) is None
    assert SystemdNotifier.from_environment({}) is None


@pytest.mark.parametrize(
    ("environ", "beat"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_interval_is_a_third_of_watchdog_usec_and_only_for_watchdog_pid(
    environ: dict[str, str], beat: float | None
) -> None:
    manager = SystemdNotifier.from_environment({"NOTIFY_SOCKET": "/run/systemd/notify", **environ})
    assert manager is not None
    assert manager.watchdog_interval == beat


def test_an_unreachable_notify_socket_is_ignored(tmp_path: Path, systemd: socket.socket) -> None:
    SystemdNotifier(str(tmp_path / "nobody")).notify("READY=1")
    full = SystemdNotifier(str(tmp_path / "notify"))
    for _ in range(10_000):  # its queue is full after a few hundred: that must not block
        full.notify("WATCHDOG=1")


def test_an_abstract_socket_is_supported() -> None:
    name = f"sensorsync-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("\0" + name)
        SystemdNotifier("@" + name).notify("READY=1")
        assert server.recv(100) == b"READY=1"


async def _ready_alive_and_stopping(server: socket.socket, address: str) -> None:
    is_ready = False
    with GracefulShutdown() as stop:
        manager = SystemdNotifier(address, watchdog_interval=0.01)
        telling = asyncio.create_task(notify_loop(manager, stop, lambda: is_ready, lambda: "450 stored"))
        await told(server, "WATCHDOG=1", "STATUS=450 stored", "WATCHDOG=1")
        is_ready = True
        await told(server, "READY=1", "WATCHDOG=1")
        stop.request("test")
        await told(server, "STOPPING=1", "WATCHDOG=1")
        telling.cancel()


def test_ready_and_stopping_are_sent_once_and_the_watchdog_all_the_time(systemd: socket.socket, tmp_path: Path) -> None:
    asyncio.run(_ready_alive_and_stopping(systemd, str(tmp_path / "notify")))


async def _stopped_before_ready(server: socket.socket, address: str) -> list[str]:
    with GracefulShutdown() as stop:
        stop.request("test")
        telling = asyncio.create_task(notify_loop(SystemdNotifier(address, 0.01), stop, lambda: True, lambda: ""))
        await told(server, "STOPPING=1", "WATCHDOG=1", "WATCHDOG=1")
        telling.cancel()
    heard = []
    while True:
        try:
            heard.append(server.recv(4096).decode())
        except BlockingIOError:
            return heard


def test_a_process_that_is_stopped_before_it_is_ready_sends_no_ready(systemd: socket.socket, tmp_path: Path) -> None:
    assert "READY=1" not in asyncio.run(_stopped_before_ready(systemd, str(tmp_path / "notify")))
