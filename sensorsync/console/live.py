"""What redraws itself at the bottom of a terminal, while the log lines scroll above it."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from math import ceil
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, ConsoleRenderable, Group, RenderableType, RenderResult
from rich.control import Control
from rich.live import Live
from rich.measure import Measurement
from rich.panel import Panel
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from sensorsync.console.logs import is_json, suppress_event

REFRESHES_PER_SECOND = 4
"""Per second."""
STOP_HINT = "Ctrl-C stops it softly"
_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.:-=+*#"
_FRAME_LINES = 3
"""Lines around the rows, the empty one below included."""
_RESERVED_LOG_LINES = 4


class Screen(Console):
    """The terminal on stderr. Its cursor stays visible: a process that is killed could not bring it back."""

    def __init__(self) -> None:
        super().__init__(file=sys.stderr, highlight=False)

    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 - as the base class has it
        return False


def live_screen() -> Screen | None:
    """What can be drawn on; None where plain lines belong: a pipe, a dumb terminal, a log for machines, a job in the background."""
    if is_json() or not sys.stderr.isatty() or not _in_foreground():
        return None
    found = Screen()
    return found if found.is_interactive else None


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # not the terminal that controls us: nobody else draws there
        return True


class _Startable(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


class LiveView:
    """A view as a context manager: what it shows live, if anything, is started and stopped."""

    def __init__(self, live: _Startable | None) -> None:
        self._display = live

    def __enter__(self) -> Self:
        if self._display is not None:
            self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.stop()


class LivePanel(Live):
    """`draw()` at the bottom of the screen, every line as wide as the screen, some times a second; nothing is left of it at the end.

    Meanwhile log lines of the event that it `suppressed_event` are left out.
    The cursor is on an empty line below: at the end of a full one,
    what a person types, such as ^C, would begin another.

    When the window becomes narrower, terminals wrap anew what is there: what was one line is then several, and all of them have to go.
    """

    def __init__(self, console: Screen, draw: Callable[[], RenderableType], *, suppressed_event: str) -> None:
        self._width = console.width
        self._suppressed_event = suppressed_event
        super().__init__(
            console=console,
            get_renderable=lambda: Group(draw(), Text()),
            refresh_per_second=REFRESHES_PER_SECOND,
            redirect_stdout=False,
            transient=True,
            vertical_overflow="crop",
        )

    def start(self, refresh: bool = False) -> None:
        suppress_event(self._suppressed_event)
        super().start(refresh)

    def stop(self) -> None:
        super().stop()
        suppress_event(None)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        before, self._width = self._width, self.console.width
        _, height = self._live_render._shape or (0, 1)
        more = (height - 1) * (ceil(before / max(1, self._width)) - 1)  # the last line is empty
        drawn = super().process_renderables(renderables)
        if more > 0:
            drawn.insert(0, Control(*[(ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)] * more))
        return drawn


class Sparkline:
    """A value over the last minutes, one sample a second: a sparkline as wide as there is room, the newest on the right."""

    def __init__(self, samples: int = 600) -> None:
        self._samples: deque[float] = deque(maxlen=samples)

    def add(self, value: float) -> None:
        """The value of the last second."""
        self._samples.append(value)

    def draw(self, width: int, bars: str = _BARS) -> str:
        """The last `width` samples in bars, from zero to the highest of them."""
        shown = list(self._samples)[-width:]
        top = max(shown, default=0.0) or 1.0
        return "".join(bars[min(len(bars) - 1, int(value / top * len(bars)))] for value in shown)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bars = _ASCII_BARS if options.ascii_only else _BARS
        yield Text(self.draw(options.max_width, bars), style="cyan")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)


class RateEstimator:
    """How fast counters grow."""

    def __init__(self) -> None:
        self.rate = 0.0
        """Per second, lately."""
        self._last_sample: tuple[float, float] | None = None

    def add(self, now: float, count: float) -> None:
        """The counter's value; one that was started anew begins at 0."""
        if self._last_sample is not None and now > self._last_sample[0]:
            at, before = self._last_sample
            self.rate = (count - before if count >= before else count) / (now - at)
        self._last_sample = now, count


Row = tuple[str, str, RenderableType]
"""Name, value, and what stands beside it."""


def framed_rows(title: str, rows: Iterable[Row], subtitle: str) -> RenderableType:
    """Rows in a frame, none of them folded. The texts must be `printable`."""
    grid = Table.grid(expand=True, padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(no_wrap=True, justify="right", min_width=11)
    grid.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
    for name, value, beside in rows:
        grid.add_row(Text(name), Text(value), beside)
    return Panel(grid, title=Text(title), title_align="left", subtitle=Text(subtitle), subtitle_align="right")


def fit_rows(rows: list[Row], console: Console, other_rows: int) -> list[Row]:
    """As many of `rows` as fit on the screen below `others` and a few log lines; the last one says how many are left out."""
    room = max(1, console.height - other_rows - _FRAME_LINES - _RESERVED_LOG_LINES)
    if len(rows) <= room:
        return rows
    return [*rows[: room - 1], (f"and {len(rows) - room + 1} more", "", "")]


def format_event_counts(counts: Mapping[str, int]) -> Text:
    """Name -> how often: those that happened at all."""
    words = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return Text(words or "none", style="yellow" if words else "")


def format_elapsed(seconds: float) -> str:
    """`1:02:03`."""
    return str(timedelta(seconds=int(seconds)))
