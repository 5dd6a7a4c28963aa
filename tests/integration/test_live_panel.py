"""`subscribe` at a real terminal: the panel, its resizing and its end; and what a terminal gets that wants none."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import pyte
import pytest

from tests.commands import Commands
from tests.services import Mosquitto

pytestmark = pytest.mark.broker


class Terminal:
    """A command at a terminal of its own, and the screen that a person sees. A context manager."""

    def __init__(self, *words: str, environment: Mapping[str, str], width: int = 80, height: int = 24) -> None:
        self.raw = b""
        self._master, slave = pty.openpty()
        self._screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self._screen)
        self.resize(width, height)
        own = {
            name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}
        }  # would fix the size
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sensorsync", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**own, "TERM": "xterm-256color", **environment},
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self._screen.resize(height, width)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display]

    def until(self, holds: Callable[[list[str]], object], seconds: float = 60.0) -> list[str]:
        """The screen, as soon as it is so."""
        deadline = time.monotonic() + seconds
        while not holds(self.lines):
            assert time.monotonic() < deadline, "\n".join(self.lines)
            if select.select([self._master], [], [], 0.1)[0]:
                self._read()
        return self.lines

    def finish(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self.process.wait(10)

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # Linux: nobody has the other side open any more
            return False
        self.raw += data
        self._stream.feed(data)
        return True


@pytest.fixture
def environment(mosquitto: Mosquitto, tmp_path: Path) -> dict[str, str]:
    settings = {
        "MQTT_BROKER": f"127.0.0.1:{mosquitto.port}",
        "SENSORSYNC_DATABASE__DRIVER": "sqlite",
        "SENSORSYNC_DATABASE__PATH": str(tmp_path / "readings.sqlite"),
        "SENSORSYNC_MQTT__CONNECTIONS": "2",
        "SENSORSYNC_PIPELINE__STATUS_INTERVAL": "200ms",
    }
    Commands(settings).run("init-db")
    return settings


def whole(lines: list[str], width: int) -> bool:
    """Whether one panel is on the screen, and every line of it is as wide as that."""
    top = [number for number, line in enumerate(lines) if line.startswith("╭")]
    bottom = [number for number, line in enumerate(lines) if line.startswith("╰")]
    if len(top) != 1 or len(bottom) != 1:
        return False
    panel = lines[top[0] : bottom[0] + 1]
    return all(len(line) == width for line in panel) and not any(lines[bottom[0] + 1 :])


def test_the_panel_fits_follows_the_window_and_leaves_nothing(environment: dict[str, str]) -> None:
    with Terminal("subscribe", environment=environment) as terminal:
        lines = terminal.until(lambda lines: whole(lines, 80) and any("2 links" in line for line in lines))
        assert any("2 link(s) to" in line for line in lines)  # the log stays, above
        Commands(environment).run("stress-publish", "--messages", "500", "--processes", "1", "--clients", "1")
        lines = terminal.until(
            lambda lines: whole(lines, 80) and any(re.match("│ stored +500 ", line) for line in lines)
        )
        assert not any("[STATUS]" in line for line in lines)  # the panel says it
        terminal.resize(120, 40)
        terminal.until(lambda lines: whole(lines, 120))
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.finish() == 0
        text = "\n".join(terminal.lines)
        assert "stopped (SIGINT): 500 rows stored (" in text
        assert "╭" not in text
        assert b"\x1b[?" not in terminal.raw  # neither the cursor nor the screen is in another state than before


@pytest.mark.parametrize("words", [("--plain",), ("--log-format", "json")])
def test_a_terminal_that_wants_lines_gets_nothing_else(environment: dict[str, str], words: tuple[str, ...]) -> None:
    plain = words == ("--plain",)
    line = ["subscribe", *words] if plain else [*words, "subscribe"]
    with Terminal(*line, "--until-idle", "500ms", environment={**environment, "NO_COLOR": "1"}) as terminal:
        assert terminal.finish() == 0
    assert b"\x1b" not in terminal.raw[: terminal.raw.index(b"stopped (idle)")]  # the result below may be bold
    if plain:
        assert b"[STATUS]" in terminal.raw
        return
    records = [json.loads(one) for one in terminal.raw.splitlines() if one.startswith(b"{")]
    status = next(record for record in records if record["event"] == "status")
    assert [*status][:5] == ["ts", "level", "logger", "message", "event"]
    assert status.keys() >= {
        "received",
        "landed",
        "parked",
        "queue_depth",
        "in_flight",
        "window",
        "links",
        "rate",
        "latency",
    }


def test_a_pipe_gets_no_escape(environment: dict[str, str]) -> None:
    done = Commands({**environment, "TERM": "xterm-256color"}).run("subscribe", "--until-idle", "500ms")
    assert "[STATUS]" in done.err
    assert "\x1b" not in done.out + done.err
