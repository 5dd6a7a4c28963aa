"""The output of `stress-publish`: its progress and its result.

On a terminal, a panel shows the progress. Elsewhere there is a log line every few seconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sensorsync.commands.stress_publish import PublishProgress
from sensorsync.console import audit
from sensorsync.console.escape import printable
from sensorsync.console.live import (
    STOP_HINT,
    LivePanel,
    LiveView,
    RateEstimator,
    Row,
    Sparkline,
    fit_rows,
    format_elapsed,
    format_event_counts,
    framed_rows,
    live_screen,
)
from sensorsync.console.logs import is_json
from sensorsync.console.table import format_value
from sensorsync.loadtest.counts import PublishCounts

log = logging.getLogger(__name__)

LOG_INTERVAL_SECONDS = 2.0
JSON_LOG_INTERVAL_SECONDS = 0.25
"""The same interval for JSON lines. A reader of them, such as `demo`, draws a bar of its own."""


class StressPublishView(LiveView):
    """The display of the progress on stderr.

    Use it as `with StressPublishView() as view: stress_publish.run(settings, options, view.show)`.
    """

    def __init__(self, *, plain: bool = False) -> None:
        self._console = None if plain else live_screen()
        self._stage = ""
        self._last_logged = 0.0
        self._log_interval = JSON_LOG_INTERVAL_SECONDS if is_json() else LOG_INTERVAL_SECONDS
        self._started_at = self._sampled_at = time.monotonic()
        self._progress: PublishProgress | None = None
        self._rate_history, self._latency_history = Sparkline(), Sparkline()
        self._answer_rate, self._wait_rate = RateEstimator(), RateEstimator()
        self._process_rates: dict[int, RateEstimator] = {}
        self._latency_ms = 0.0
        super().__init__(
            None if self._console is None else LivePanel(self._console, self._draw, suppressed_event="progress")
        )

    def show(self, progress: PublishProgress) -> None:
        """Show the progress after a change."""
        self._progress = progress
        if self._console is None:
            self._log(progress)

    # -- the panel -----------------------------------------------------------------------------------------------------

    def _draw(self) -> RenderableType:
        """Draw the panel. It runs on the display's thread, the only one that uses the sparklines."""
        now, progress = time.monotonic(), self._progress
        title, foot, rows = f"sensorsync stress-publish, {format_elapsed(now - self._started_at)}", STOP_HINT, []
        if progress is not None:
            title, foot = f"{title}: {progress.stage}", f"run {printable(progress.run)}, {foot}"
            if now - self._sampled_at >= 1:
                self._sampled_at = now
                self._sample(progress, now)
            rows = self._rows(progress)
        return framed_rows(title, rows, foot)

    def _sample(self, progress: PublishProgress, now: float) -> None:
        counts = progress.counts
        self._answer_rate.add(now, counts.answered)
        self._wait_rate.add(now, counts.waited)
        self._latency_ms = self._wait_rate.rate / self._answer_rate.rate * 1000 if self._answer_rate.rate else 0.0
        self._rate_history.add(self._answer_rate.rate)
        self._latency_history.add(self._latency_ms)
        for number, of_process in enumerate(progress.processes):
            self._process_rates.setdefault(number, RateEstimator()).add(now, of_process.answered)

    def _rows(self, progress: PublishProgress) -> list[Row]:
        counts = progress.counts
        rows: list[Row] = [
            ("acknowledged", f"{counts.acked:,}", _progress_bar(progress.total, counts.answered)),
            ("per second", f"{self._answer_rate.rate:,.0f}", self._rate_history),
            ("latency", f"{self._latency_ms:,.1f} ms", self._latency_history),
            ("window", *_window_cells(counts)),
            ("events", "", _format_events(counts)),
        ]
        if progress.stored is not None:
            rows.insert(1, ("stored", f"{progress.stored:,}", _progress_bar(counts.acked, progress.stored)))
        if self._console is None or len(progress.processes) < 2:
            return rows
        processes = [self._process_row(number, one) for number, one in enumerate(progress.processes)]
        return [*rows, *fit_rows(processes, self._console, len(rows))]

    def _process_row(self, number: int, counts: PublishCounts) -> Row:
        pace = self._process_rates.get(number, RateEstimator())
        words = f"{counts.acked:,} acknowledged, {counts.sent - counts.answered:,} under way"
        return f"process {number}", f"{pace.rate:,.0f}/s", Text(words)

    # -- the lines -----------------------------------------------------------------------------------------------------

    def _log(self, progress: PublishProgress) -> None:
        now = time.monotonic()
        if progress.stage == self._stage and now - self._last_logged < self._log_interval:
            return
        new_stage = progress.stage != self._stage
        self._stage, self._last_logged = progress.stage, now
        facts = {
            name: getattr(progress, name)
            for name in ("run", "stage", "total", "sent", "acked", "not_acked", "rate", "stored")
        }
        of = "" if progress.total is None else f" of {progress.total:,}"
        words = f"{progress.stage}: {progress.acked:,}{of} acknowledged"
        if progress.stage == "publishing":
            words += f", {progress.rate:,.0f}/s"
        if progress.not_acked:
            words += f", {progress.not_acked:,} not delivered"
        if progress.stored is not None:
            words += f", {progress.stored:,} stored"
        if new_stage and not progress.sent:
            words = f"{progress.stage} (run {progress.run})"
        log.info("%s", words, extra={"event": "progress", **facts})


def _progress_bar(total: int | None, done: int) -> RenderableType:
    return Text("of a recording") if total is None else ProgressBar(total=max(1, total), completed=done)


def _window_cells(counts: PublishCounts) -> tuple[str, Text]:
    under_way = counts.sent - counts.answered
    if not counts.window:
        return "", Text(f"no connection to the broker, {under_way:,} messages unacknowledged", style="red")
    used = min(1.0, under_way / counts.window)
    return f"{used:.0%}", Text(f"{under_way:,} of {counts.window:,} messages unacknowledged")


def _format_events(counts: PublishCounts) -> Text:
    named = {
        "without a subscriber": counts.no_subscriber,
        "failed": counts.failed,
        "sent again": counts.retransmitted,
        "reconnects": counts.reconnects,
        "bad lines": counts.bad_lines,
    }
    return format_event_counts(named)


def render(data: Mapping[str, Any], console: Console) -> None:
    """Print the result of a run."""
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
            table.add_row(name.replace("_", " "), Text(printable(format_value(data[name]))))
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
