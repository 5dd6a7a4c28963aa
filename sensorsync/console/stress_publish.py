"""What `stress-publish` shows: on a terminal a panel while it runs; a log line every few seconds elsewhere; and its outcome."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sensorsync.commands.stress_publish import Progress
from sensorsync.console import audit
from sensorsync.console.escape import printable
from sensorsync.console.live import (
    STOPS_SOFTLY,
    Course,
    Display,
    LivePanel,
    Pace,
    Row,
    board,
    clock,
    screen,
    some,
    troubles,
)
from sensorsync.console.logs import is_json
from sensorsync.console.table import as_text
from sensorsync.loadtest.counts import Counts

log = logging.getLogger(__name__)

LINE_SECONDS = 2.0
MACHINE_SECONDS = 0.25
"""A reader of JSON lines, such as `demo`, draws a bar of its own."""


class View(Display):
    """`with View() as view: stress_publish.run(settings, options, view.show)`. It writes to stderr alone."""

    def __init__(self, *, plain: bool = False) -> None:
        self._console = None if plain else screen()
        self._stage = ""
        self._last = 0.0
        self._every = MACHINE_SECONDS if is_json() else LINE_SECONDS
        self._began = self._sampled = time.monotonic()
        self._progress: Progress | None = None
        self._answered, self._latency = Course(), Course()
        self._pace, self._waiting = Pace(), Pace()
        self._paces: dict[int, Pace] = {}
        self._milliseconds = 0.0
        super().__init__(None if self._console is None else LivePanel(self._console, self._draw, replaces="progress"))

    def show(self, progress: Progress) -> None:
        """One change."""
        self._progress = progress
        if self._console is None:
            self._log(progress)

    # -- the panel -----------------------------------------------------------------------------------------------------

    def _draw(self) -> RenderableType:
        """On the thread of the display, which alone has the courses."""
        now, progress = time.monotonic(), self._progress
        title, foot, rows = f"sensorsync stress-publish, {clock(now - self._began)}", STOPS_SOFTLY, []
        if progress is not None:
            title, foot = f"{title}: {progress.stage}", f"run {printable(progress.run)}, {foot}"
            if now - self._sampled >= 1:
                self._sampled = now
                self._sample(progress, now)
            rows = self._rows(progress)
        return board(title, rows, foot)

    def _sample(self, progress: Progress, now: float) -> None:
        counts = progress.counts
        self._pace.sample(now, counts.answered)
        self._waiting.sample(now, counts.waited)
        self._milliseconds = self._waiting.rate / self._pace.rate * 1000 if self._pace.rate else 0.0
        self._answered.add(self._pace.rate)
        self._latency.add(self._milliseconds)
        for number, of_process in enumerate(progress.processes):
            self._paces.setdefault(number, Pace()).sample(now, of_process.answered)

    def _rows(self, progress: Progress) -> list[Row]:
        counts = progress.counts
        rows: list[Row] = [
            ("acknowledged", f"{counts.acked:,}", _bar(progress.total, counts.answered)),
            ("per second", f"{self._pace.rate:,.0f}", self._answered),
            ("latency", f"{self._milliseconds:,.1f} ms", self._latency),
            ("window", *_window(counts)),
            ("events", "", _events(counts)),
        ]
        if progress.stored is not None:
            rows.insert(1, ("stored", f"{progress.stored:,}", _bar(counts.acked, progress.stored)))
        if self._console is None or len(progress.processes) < 2:
            return rows
        processes = [self._process(number, one) for number, one in enumerate(progress.processes)]
        return [*rows, *some(processes, self._console, len(rows))]

    def _process(self, number: int, counts: Counts) -> Row:
        pace = self._paces.get(number, Pace())
        words = f"{counts.acked:,} acknowledged, {counts.sent - counts.answered:,} under way"
        return f"process {number}", f"{pace.rate:,.0f}/s", Text(words)

    # -- the lines -----------------------------------------------------------------------------------------------------

    def _log(self, where: Progress) -> None:
        now = time.monotonic()
        if where.stage == self._stage and now - self._last < self._every:
            return
        new_stage = where.stage != self._stage
        self._stage, self._last = where.stage, now
        facts = {
            name: getattr(where, name)
            for name in ("run", "stage", "total", "sent", "acked", "not_acked", "rate", "stored")
        }
        of = "" if where.total is None else f" of {where.total:,}"
        words = f"{where.stage}: {where.acked:,}{of} acknowledged"
        if where.stage == "publishing":
            words += f", {where.rate:,.0f}/s"
        if where.not_acked:
            words += f", {where.not_acked:,} not delivered"
        if where.stored is not None:
            words += f", {where.stored:,} stored"
        if new_stage and not where.sent:
            words = f"{where.stage} (run {where.run})"
        log.info("%s", words, extra={"event": "progress", **facts})


def _bar(total: int | None, done: int) -> RenderableType:
    return Text("of a recording") if total is None else ProgressBar(total=max(1, total), completed=done)


def _window(counts: Counts) -> tuple[str, Text]:
    under_way = counts.sent - counts.answered
    if not counts.window:
        return "", Text(f"no connection to the broker, {under_way:,} messages unacknowledged", style="red")
    used = min(1.0, under_way / counts.window)
    return f"{used:.0%}", Text(f"{under_way:,} of {counts.window:,} messages unacknowledged")


def _events(counts: Counts) -> Text:
    named = {
        "without a subscriber": counts.no_subscriber,
        "failed": counts.failed,
        "sent again": counts.retransmitted,
        "reconnects": counts.reconnects,
        "bad lines": counts.bad_lines,
    }
    return troubles(named)


def render(data: Mapping[str, Any], console: Console) -> None:
    """The outcome of a run."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    place = (
        "run",
        "file",
        "broker",
        "topic",
        "topics",
        "devices",
        "payload_size",
        "processes",
        "clients",
        "signed",
        "encrypted",
    )
    counts = ("messages", "sent", "acked", "no_subscriber", "failed", "unacknowledged", "retransmitted", "reconnects")
    for name in (*place, *counts, "bad_lines"):
        if data.get(name) is not None:
            table.add_row(name.replace("_", " "), Text(printable(as_text(data[name]))))
    if data.get("rate") is not None:
        sent = "" if data["achieved"] is None else f"{data['achieved']:,.1f} of "
        table.add_row("open loop", f"{sent}{data['rate']:,.1f} messages/s sent")
    if data["reason_codes"]:
        codes = ", ".join(f"{code}: {count:,}" for code, count in data["reason_codes"].items())
        table.add_row("reason codes", codes)
    table.add_row("duration", f"{data['duration']:,.2f} s")
    table.add_row("throughput", f"{data['throughput']:,.0f} messages/s")
    latency = data["latency_ms"]
    if latency["max"] is not None:
        table.add_row("ack latency", ", ".join(f"{name} {value:,.1f} ms" for name, value in latency.items()))
    console.print(table)
    for bad in data.get("first_bad_lines", ()):
        console.print(Text(printable(f"line {bad['line']}: {bad['message']} ({bad['reason']})")))
    if "audit" in data:
        audit.render(data["audit"], console)
