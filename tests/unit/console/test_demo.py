"""What `demo` shows."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import pytest
from rich.console import Console

from sensorsync.commands.demo import DemoProgress
from sensorsync.console.demo import DemoView, render

DATA: dict[str, Any] = {
    "run": "r1",
    "published": 50_000,
    "acked": 50_000,
    "stored": 50_000,
    "missing": 0,
    "redelivered": 12,
    "parked": 0,
    "seconds": 3.2,
    "published_per_second": 41_000.0,
    "stored_per_second": 15_625.0,
    "broker": "embedded",
    "driver": "sqlite",
    "folder": None,
    "database": None,
    "config": None,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def rendered(**changes: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    render({**DATA, **changes}, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_outcome_states_that_every_message_arrived() -> None:
    text = rendered()
    assert "stored" in text
    assert "50,000" in text
    assert "Every message arrived (embedded -> subscribe -> sqlite, 3.2 s)." in text
    assert "Kept" not in text


def test_the_outcome_states_the_number_of_missing_messages() -> None:
    assert "7 of 50,000 messages did not arrive" in rendered(stored=49_993, missing=7)


def test_a_kept_folder_is_named_with_what_can_be_done_there() -> None:
    text = rendered(folder="/d/x", config="/d/x/sensorsync.yaml")
    assert "Kept in /d/x: sensorsync --config /d/x/sensorsync.yaml audit r1" in text


def test_a_demo_that_failed_early_shows_only_the_kept_folder() -> None:
    console = Console(file=io.StringIO(), width=200)
    render({"folder": "/d/x"}, console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "Kept in /d/x\n"


def test_off_a_terminal_each_step_is_one_log_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    caplog.set_level(logging.INFO, logger="sensorsync")
    with DemoView() as view:
        for where in (
            DemoProgress("publishing", 10),
            DemoProgress("publishing", 10, acked=5),
            DemoProgress("auditing", 10, acked=10),
        ):
            view.show(where)
    assert caplog.messages == ["publishing", "auditing"]


def test_on_a_terminal_two_bars_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with DemoView() as view:
        view.show(DemoProgress("publishing", 10, acked=10, stored=4, parked=1, rate=1234.0))
    text = screen.getvalue()
    assert "acknowledged" in text
    assert "10/10" in text
    assert "5/10" in text
