"""What is drawn at the bottom of a terminal."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import pyte
import pytest
from rich.console import Console
from rich.text import Text

from sensorsync.commands.stress_publish import PublishProgress
from sensorsync.console import logs, stress_publish, subscribe
from sensorsync.console.live import LivePanel, RateEstimator, Screen, Sparkline, framed_rows, live_screen
from sensorsync.loadtest.counts import PublishCounts
from sensorsync.pipeline.counters import PipelineCounters, Snapshot
from sensorsync.service.live_status import LiveStatus

log = logging.getLogger("sensorsync.somewhere")


class Terminal(io.StringIO):
    """What was written to a terminal."""

    def isatty(self) -> bool:
        return True

    def seen(self, width: int = 80, height: int = 24) -> list[str]:
        """What a screen of this size shows after all that was written."""
        seen = pyte.Screen(width, height)
        pyte.Stream(seen).feed(self.getvalue().replace("\n", "\r\n"))  # as the line discipline does
        return [line.rstrip() for line in seen.display]


@pytest.fixture(autouse=True)
def ordinary_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a terminal of 80 x 24."""
    for name, value in {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_INTERACTIVE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as stderr, with the log on it. Not a fixture: pytest gives each phase of a test a stderr of its own."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    logs.configure("INFO", "text")
    return terminal


def status(**changes: Any) -> Snapshot:
    """A busy moment."""
    meter = PipelineCounters(0.0)
    meter.rows_stored, meter.settled, meter.received, meter.links = 987_654_321, 987_654_321, 987_700_000, 64
    meter.retries = meter.reconnects = meter.sessions_lost = meter.redelivered_rows = 1_234_567
    meter.parked_by_reason.update(signature=999_999, not_a_reading=888_888, too_old=777_777, refused_by_database=6)
    for name, value in changes.items():
        setattr(meter, name, value)
    return meter.snapshot(1.0)


def lines_of(renderable: Any, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def drawn(view: Any) -> Any:
    return view._draw()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (40, 24)])
def test_no_line_of_the_panel_is_folded(monkeypatch: pytest.MonkeyPatch, width: int, height: int) -> None:
    open_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", str(height))
    view = subscribe.SubscribeView()
    assert view.show is not None
    view.show(LiveStatus(status(), 123_456, 128_000, {number: status() for number in range(60)}))
    lines = lines_of(drawn(view), width, height)
    assert {len(line) for line in lines} == {width}
    assert len(lines) <= height - 4
    assert "more" in lines[-2]


def test_a_few_processes_have_a_line_each_and_one_that_is_away_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    open_terminal(monkeypatch)
    view = subscribe.SubscribeView()
    assert view.show is not None
    view.show(LiveStatus(status(), 5, 1280, {0: status(rows_stored=17), 1: None}))
    text = "\n".join(lines_of(drawn(view), 80, 24))
    assert "process 0" in text
    assert "17 stored" in text
    assert "process 1" in text
    assert "does not run" in text
    assert "more" not in text


def test_without_a_connection_the_window_reports_that(monkeypatch: pytest.MonkeyPatch) -> None:
    open_terminal(monkeypatch)
    view = subscribe.SubscribeView()
    assert view.show is not None
    view.show(LiveStatus(status(links=0)))
    assert "no connection to the broker" in "\n".join(lines_of(drawn(view), 80, 24))


def test_before_the_first_live_status_it_is_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    open_terminal(monkeypatch)
    assert "starting" in "\n".join(lines_of(drawn(subscribe.SubscribeView()), 80, 24))


def test_the_panel_of_a_load_fits_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    open_terminal(monkeypatch)
    view = stress_publish.StressPublishView()
    counts = PublishCounts(
        sent=1_000_000, acked=999_000, failed=50, no_subscriber=50, retransmitted=9, reconnects=3, window=2048
    )
    view.show(PublishProgress("publishing", "r" * 60, 2_000_000, counts=counts, stored=12, processes=(counts, counts)))
    lines = lines_of(drawn(view), 80, 24)
    assert {len(line) for line in lines} == {80}
    text = "\n".join(lines)
    for words in ("publishing", "999,000", "stored", "900 of 2,048 messages", "50 without a subscriber", "process 1"):
        assert words in text


def test_log_lines_scroll_above_the_panel_and_nothing_of_it_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    panel = LivePanel(
        Screen(), lambda: framed_rows("the title", [("name", "1", "")], "the foot"), suppressed_event="status"
    )
    panel.start(refresh=True)
    try:
        log.info("first")
        log.info("hidden", extra={"event": "status"})
        log.warning("second")
        panel.refresh()
        seen = terminal.seen()
    finally:
        panel.stop()
    assert seen[0].endswith("INFO  first")
    assert seen[1].endswith("WARN  second")
    assert seen[2].startswith("╭─ the title ─")
    assert seen[4].endswith("─ the foot ─╯")
    assert not any(seen[5:])
    log.info("third", extra={"event": "status"})
    after = terminal.seen()
    assert after[2].endswith("INFO  third")
    assert not any(after[3:])


def test_the_cursor_is_never_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    panel = LivePanel(Screen(), Text, suppressed_event="status")
    panel.start(refresh=True)
    panel.stop()
    assert "\x1b[?25" not in terminal.getvalue()


def test_in_a_narrower_window_the_lines_that_were_wrapped_again_are_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    panel = LivePanel(
        Screen(), lambda: framed_rows("the title", [("name", "1", "")], "the foot"), suppressed_event="status"
    )
    panel.start(refresh=True)
    try:
        panel.refresh()
        before = terminal.getvalue().count("\x1b[1A")
        panel.console.width = 40  # three lines are six
        panel.refresh()
        assert terminal.getvalue().count("\x1b[1A") - before == 6
        assert "╭─ the title ─" + 25 * "─" + "╮" in terminal.getvalue()
    finally:
        panel.stop()


def test_colors_are_left_out_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    sparkline = Sparkline()
    sparkline.add(1.0)
    found = live_screen()
    assert found is not None
    found.print(sparkline)
    assert terminal.getvalue() == "█\n"


@pytest.mark.parametrize("name", ["pipe", "dumb", "json", "plain"])
def test_where_a_panel_does_not_belong_there_is_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    terminal = open_terminal(monkeypatch)
    if name == "pipe":
        monkeypatch.setattr(sys, "stderr", io.StringIO())
    if name == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    if name == "json":
        logs.configure("INFO", "json")
    with subscribe.SubscribeView(plain=name == "plain") as view:
        assert view.show is None
    with stress_publish.StressPublishView(plain=name == "plain") as other:
        other.show(PublishProgress("connecting", "r1", 10))
    assert "\x1b" not in terminal.getvalue()
    assert "╭" not in terminal.getvalue()


def test_a_sparkline_goes_from_zero_to_the_highest_that_is_shown() -> None:
    sparkline = Sparkline()
    assert sparkline.draw(5) == ""
    for value in (1000.0, 0.0, 1.0, 2.0, 4.0, 8.0):
        sparkline.add(value)
    assert sparkline.draw(5) == "▁▂▃▅█"
    assert sparkline.draw(6) == "█▁▁▁▁▁"


def test_a_sparkline_of_nothing_is_flat() -> None:
    sparkline = Sparkline()
    sparkline.add(0.0)
    assert sparkline.draw(5) == "▁"


def test_where_only_ascii_can_be_written_the_bars_are_ascii() -> None:
    sparkline = Sparkline()
    sparkline.add(1.0)
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, width=20)
    console.print(sparkline)
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    assert file.buffer.getvalue() == b"#\n"


def test_the_rate_is_the_growth_since_the_previous_sample() -> None:
    pace = RateEstimator()
    pace.add(10.0, 500)
    assert pace.rate == 0.0
    pace.add(12.0, 700)
    assert pace.rate == 100.0
    pace.add(13.0, 30)  # the process was started again
    assert pace.rate == 30.0
