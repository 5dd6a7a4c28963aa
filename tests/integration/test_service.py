"""`subscribe` as a service of systemd: it tells how it is to the socket that it was given."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import Commands
from tests.fakes import FakeBroker, InThread


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(120)
        yield server


def heard_until(server: socket.socket, line: str) -> list[str]:
    """All lines up to the first one like this."""
    heard: list[str] = []
    while line not in heard:
        heard += server.recv(4096).decode().splitlines()
    return heard


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_service_is_ready_when_it_is_subscribed_and_alive_until_its_end(
    tmp_path: Path, systemd: socket.socket, processes: str
) -> None:
    with InThread(FakeBroker()) as broker:
        commands = Commands(
            {
                "MQTT_BROKER": f"127.0.0.1:{broker.port}",
                "SENSORSYNC_DATABASE__DRIVER": "sqlite",
                "SENSORSYNC_DATABASE__PATH": str(tmp_path / "readings.sqlite"),
                "SENSORSYNC_DATABASE__WAIT_FOR_DATABASE": "true",
                "SENSORSYNC_PIPELINE__PROCESSES": processes,
                "NOTIFY_SOCKET": str(tmp_path / "notify"),
                "WATCHDOG_USEC": "6000000",
            }
        )
        log = tmp_path / "log"
        with commands.start(log, "--log-format", "json", "subscribe") as service:
            service.logged("database_awaited")
            assert commands.run("init-db").exit_code == 0
            before = heard_until(systemd, "READY=1")
            assert '"event": "connected"' in log.read_text()
            assert "STOPPING=1" not in before
            assert any(line.endswith("connection(s)") for line in heard_until(systemd, "WATCHDOG=1"))
            service.send(signal.SIGTERM)
            assert "READY=1" not in heard_until(systemd, "STOPPING=1")
            assert service.finish().exit_code == 0
