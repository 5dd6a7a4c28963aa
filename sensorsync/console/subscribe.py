"""What `subscribe` shows while it runs: on a terminal a panel under the log lines; elsewhere log lines alone."""

from __future__ import annotations

import time

from rich.console import RenderableType
from rich.text import Text

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
from sensorsync.pipeline.counters import Status
from sensorsync.service.live_status import Picture, Show


class View(Display):
    """`with View() as view: subscribe.run(settings, show=view.show)`. It writes to stderr alone."""

    def __init__(self, *, plain: bool = False) -> None:
        self._console = None if plain else screen()
        self._began = self._sampled = time.monotonic()
        self._picture: Picture | None = None
        self._stored, self._latency, self._queue = Course(), Course(), Course()
        self._pace = Pace()
        self._paces: dict[int, Pace] = {}
        self._milliseconds = 0.0
        super().__init__(None if self._console is None else LivePanel(self._console, self._draw, replaces="status"))

    @property
    def show(self) -> Show | None:
        """Takes a picture to be shown; None when nothing is shown."""
        return None if self._console is None else self._take

    def _take(self, picture: Picture) -> None:
        self._picture = picture

    def _draw(self) -> RenderableType:
        """On the thread of the display, which alone has the courses."""
        now, picture = time.monotonic(), self._picture
        rows: list[Row] = [("starting", "", "")]
        if picture is not None:
            self._sample(picture, now)
            rows = self._rows(picture)
        return board(f"sensorsync subscribe, {clock(now - self._began)}", rows, STOPS_SOFTLY)

    def _sample(self, picture: Picture, now: float) -> None:
        """Once a second."""
        if now - self._sampled < 1:
            return
        self._sampled = now
        status = picture.status
        self._pace.sample(now, status.landed)
        if status.new:
            self._milliseconds = status.latency * 1000
        elif not self._pace.rate:
            self._milliseconds = 0.0
        self._stored.add(self._pace.rate)
        self._latency.add(self._milliseconds)
        self._queue.add(status.queue_depth)
        for number, of_process in picture.processes.items():
            if of_process is not None:
                self._paces.setdefault(number, Pace()).sample(now, of_process.landed)

    def _rows(self, picture: Picture) -> list[Row]:
        status = picture.status
        rows: list[Row] = [
            ("stored", f"{status.landed:,}", ""),
            ("per second", f"{self._pace.rate:,.0f}", self._stored),
            ("latency", f"{self._milliseconds:,.0f} ms", self._latency),
            ("queue", f"{status.queue_depth:,}", self._queue),
            _window(picture),
            _dead_letters(picture),
            _troubles(status),
        ]
        if self._console is None or not picture.processes:
            return rows
        processes = [self._process(number, one) for number, one in picture.processes.items()]
        return [*rows, *some(processes, self._console, len(rows))]

    def _process(self, number: int, status: Status | None) -> Row:
        name = f"process {number}"
        if status is None:
            return name, "", Text("does not run", style="red")
        pace = self._paces.get(number, Pace())
        words = f"{status.landed:,} stored, queue {status.queue_depth:,}, {_links(status)}"
        return name, f"{pace.rate:,.0f}/s", Text(words)


def _window(picture: Picture) -> Row:
    status = picture.status
    if not status.links:
        return "window", "", Text("no connection to the broker", style="red")
    used = status.in_flight / max(1, picture.room)  # above 1 where a broker does not keep to it
    words = f"{status.in_flight:,} of {picture.room:,} messages unacknowledged, {_links(status)}"
    return "window", f"{used:.0%}", Text(words)


def _links(status: Status) -> str:
    return "1 link" if status.links == 1 else f"{status.links} links"


def _dead_letters(picture: Picture) -> Row:
    reasons = sorted(picture.status.parked_by_reason.items(), key=lambda item: -item[1])
    words = ", ".join(f"{reason} {count:,}" for reason, count in reasons)
    new = f"{picture.status.parked:,} parked since the start: {words}" if reasons else "none parked since the start"
    letters = "" if picture.letters is None else f"{picture.letters:,}"
    return "dead letters", letters, Text(new, style="yellow" if reasons else "")


def _troubles(status: Status) -> Row:
    counts = {
        "retries": status.retries,
        "reconnects": status.reconnects,
        "sessions lost": status.sessions_lost,
        "redelivered": status.duplicates,
    }
    return "events", "", troubles(counts)
