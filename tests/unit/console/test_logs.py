from __future__ import annotations

import io
import json
import logging
import re
import sys

import pytest

from sensorsync.console import logs

log = logging.getLogger("sensorsync.somewhere")


def test_a_text_line_has_time_level_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "text")
    log.info("hello %s", "there")
    log.warning("careful")
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO  hello there", first)
    assert second.endswith(" WARN  careful")


def test_a_json_line_has_stable_fields_and_the_records_own(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")
    log.info("landed %d", 5, extra={"event": "status", "landed": 5, "level": "mine"})
    captured = capsys.readouterr()
    document = json.loads(captured.err)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document.pop("ts"))
    assert document == {
        "level": "INFO",
        "logger": "sensorsync.somewhere",
        "message": "landed 5",
        "event": "status",
        "landed": 5,
    }
    assert captured.out == ""


@pytest.mark.parametrize("evil", ["a\nERROR forged", "a\r\x1b[2Jb", "a\u2028b", "a\u202eb", "a\x9bb", "a\ud800b"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_message_from_outside_cannot_forge_a_line_or_drive_the_terminal(
    capsys: pytest.CaptureFixture[str], form: str, evil: str
) -> None:
    logs.configure("INFO", form)
    log.info("topic %s", evil)
    written = capsys.readouterr().err
    assert len(written.splitlines()) == 1
    assert written.rstrip("\n").isprintable()


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_cannot_forge_a_line_either(capsys: pytest.CaptureFixture[str], form: str) -> None:
    logs.configure("INFO", form)
    try:
        raise ValueError("bad\n2026-01-01 00:00:00 INFO  forged\x1b[0m")  # noqa: TRY301 - a traceback to log
    except ValueError:
        log.exception("failed")
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("    ") for line in lines[1:])
    assert all(line.isprintable() for line in lines)


def test_below_the_level_nothing_is_logged_and_others_speak_from_warning_on(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("WARNING", "text")
    log.info("no")
    log.warning("yes")
    logging.getLogger("library").info("no")
    logging.getLogger("library").warning("yes")
    assert capsys.readouterr().err.count("yes") == 2
    assert "no" not in capsys.readouterr().err


def test_configured_again_nothing_is_logged_twice(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "text")
    logs.configure("nonsense", "json")
    log.info("once")
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert logs.is_json()


def test_the_handler_follows_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure("INFO", "text")
    other = io.StringIO()
    monkeypatch.setattr(sys, "stderr", other)
    log.info("there")
    assert "there" in other.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_color_is_for_terminals_that_support_it_without_no_color() -> None:
    assert logs.use_color(Terminal(), {})
    assert not logs.use_color(io.StringIO(), {})
    assert not logs.use_color(Terminal(), {"NO_COLOR": "1"})
    assert not logs.use_color(Terminal(), {"TERM": "dumb"})


def test_on_a_terminal_the_level_is_colored(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    logs.configure("INFO", "text")
    log.error("red")
    assert "\x1b[31mERROR\x1b[0m red" in terminal.getvalue()


def test_a_traceback_that_came_as_text_is_below_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "text")
    log.error("it broke", extra={"traceback": "Traceback:\n  here"})
    assert capsys.readouterr().err.endswith("it broke\n    Traceback:\n      here\n")
