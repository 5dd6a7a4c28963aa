"""The display of a running `subscribe`: on a terminal a panel under the log lines, elsewhere log lines alone."""

from __future__ import annotations

import time

from rich.console import RenderableType
from rich.text import Text

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
from sensorsync.pipeline.counters import Snapshot
from sensorsync.service.live_status import LiveStatus, ShowLiveStatus


class SubscribeView(LiveView):
    """The display of the live status on stderr.

    Use it as `with SubscribeView() as view: subscribe.run(settings, on_update=view.show)`.
    """

    def __init__(self, *, plain: bool = False) -> None:
        self._console = None if plain else live_screen()
        self._started_at = self._sampled_at = time.monotonic()
        self._live_status: LiveStatus | None = None
        self._rate_history, self._latency_history, self._queue_history = Sparkline(), Sparkline(), Sparkline()
        self._store_rate = RateEstimator()
        self._process_rates: dict[int, RateEstimator] = {}
        self._latency_ms = 0.0
        super().__init__(
            None if self._console is None else LivePanel(self._console, self._draw, suppressed_event="status")
        )

    @property
    def show(self) -> ShowLiveStatus | None:
        """The function that shows a live status; None when there is no panel."""
        return None if self._console is None else self._set_live_status

    def _set_live_status(self, live_status: LiveStatus) -> None:
        self._live_status = live_status

    def _draw(self) -> RenderableType:
        """Draw the panel. It runs on the display's thread, the only one that uses the sparklines."""
        now, live_status = time.monotonic(), self._live_status
        rows: list[Row] = [("starting", "", "")]
        if live_status is not None:
            self._sample(live_status, now)
            rows = self._rows(live_status)
        return framed_rows(f"sensorsync subscribe, {format_elapsed(now - self._started_at)}", rows, STOP_HINT)

    def _sample(self, live_status: LiveStatus, now: float) -> None:
        """Add a sample to each sparkline, once a second."""
        if now - self._sampled_at < 1:
            return
        self._sampled_at = now
        status = live_status.snapshot
        self._store_rate.add(now, status.landed)
        if status.new:
            self._latency_ms = status.latency * 1000
        elif not self._store_rate.rate:
            self._latency_ms = 0.0
        self._rate_history.add(self._store_rate.rate)
        self._latency_history.add(self._latency_ms)
        self._queue_history.add(status.queue_depth)
        for number, of_process in live_status.processes.items():
            if of_process is not None:
                self._process_rates.setdefault(number, RateEstimator()).add(now, of_process.landed)

    def _rows(self, live_status: LiveStatus) -> list[Row]:
        status = live_status.snapshot
        rows: list[Row] = [
            ("stored", f"{status.landed:,}", ""),
            ("per second", f"{self._store_rate.rate:,.0f}", self._rate_history),
            ("latency", f"{self._latency_ms:,.0f} ms", self._latency_history),
            ("queue", f"{status.queue_depth:,}", self._queue_history),
            _window_row(live_status),
            _dead_letters_row(live_status),
            _events_row(status),
        ]
        if self._console is None or not live_status.processes:
            return rows
        processes = [self._process_row(number, one) for number, one in live_status.processes.items()]
        return [*rows, *fit_rows(processes, self._console, len(rows))]

    def _process_row(self, number: int, snapshot: Snapshot | None) -> Row:
        name = f"process {number}"
        if snapshot is None:
            return name, "", Text("does not run", style="red")
        pace = self._process_rates.get(number, RateEstimator())
        words = f"{snapshot.landed:,} stored, queue {snapshot.queue_depth:,}, {_format_links(snapshot)}"
        return name, f"{pace.rate:,.0f}/s", Text(words)


def _window_row(live_status: LiveStatus) -> Row:
    status = live_status.snapshot
    if not status.links:
        return "window", "", Text("no connection to the broker", style="red")
    used = status.in_flight / max(1, live_status.max_in_flight)  # above 1 where a broker exceeds the window
    words = f"{status.in_flight:,} of {live_status.max_in_flight:,} messages unacknowledged, {_format_links(status)}"
    return "window", f"{used:.0%}", Text(words)


def _format_links(snapshot: Snapshot) -> str:
    return "1 link" if snapshot.links == 1 else f"{snapshot.links} links"


def _dead_letters_row(live_status: LiveStatus) -> Row:
    reasons = sorted(live_status.snapshot.parked_by_reason.items(), key=lambda item: -item[1])
    words = ", ".join(f"{reason} {count:,}" for reason, count in reasons)
    new = (
        f"{live_status.snapshot.parked:,} parked since the start: {words}" if reasons else "none parked since the start"
    )
    letters = "" if live_status.dead_letters is None else f"{live_status.dead_letters:,}"
    return "dead letters", letters, Text(new, style="yellow" if reasons else "")


def _events_row(snapshot: Snapshot) -> Row:
    counts = {
        "retries": snapshot.retries,
        "reconnects": snapshot.reconnects,
        "sessions lost": snapshot.sessions_lost,
        "redelivered": snapshot.duplicates,
    }
    return "events", "", format_event_counts(counts)
