"""Live displays at the bottom of a terminal, while the log lines scroll above them."""

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
STOP_HINT = "Ctrl-C stops it softly"
_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.:-=+*#"
_FRAME_LINES = 3
"""Lines around the rows, the empty one below included."""
_RESERVED_LOG_LINES = 4


class Screen(Console):
    """The terminal on stderr. Its cursor stays visible, because a process that is killed could not restore it."""

    def __init__(self) -> None:
        super().__init__(file=sys.stderr, highlight=False)

    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 - as the base class has it
        return False


def live_screen() -> Screen | None:
    """Return the screen for a live display, or None where plain lines belong.

    These places are a pipe, a dumb terminal, a log for machines, and a job in the background.
    """
    if is_json() or not sys.stderr.isatty() or not _in_foreground():
        return None
    found = Screen()
    return found if found.is_interactive else None


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # it is not our controlling terminal, so no other job draws there
        return True


class _Startable(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


class LiveView:
    """A view as a context manager that starts and stops its live display, if it has one."""

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
    """A panel of `draw()` at the bottom of the screen, as wide as the screen, which is erased at the end.

    It is drawn several times a second. Meanwhile, log lines of the event `suppressed_event` are left out. The cursor is
    on an empty line below the panel. If it were at the end of a full line, typed characters such as ^C would begin
    another.

    When the window becomes narrower, terminals wrap the lines that are already there. One line is then several lines,
    and all of them have to be erased.
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
    """A sparkline of one sample per second, as wide as there is room, with the newest on the right."""

    def __init__(self, samples: int = 600) -> None:
        self._samples: deque[float] = deque(maxlen=samples)

    def add(self, value: float) -> None:
        """Add the value of the last second."""
        self._samples.append(value)

    def draw(self, width: int, bars: str = _BARS) -> str:
        """Return the last `width` samples as bars, from zero to the highest of them."""
        shown = list(self._samples)[-width:]
        top = max(shown, default=0.0) or 1.0
        return "".join(bars[min(len(bars) - 1, int(value / top * len(bars)))] for value in shown)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bars = _ASCII_BARS if options.ascii_only else _BARS
        yield Text(self.draw(options.max_width, bars), style="cyan")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)


class RateEstimator:
    """The growth of a counter per second."""

    def __init__(self) -> None:
        self.rate = 0.0
        """Growth per second between the two latest samples."""
        self._last_sample: tuple[float, float] | None = None

    def add(self, now: float, count: float) -> None:
        """Add the counter's value. A counter that was started again begins at 0."""
        if self._last_sample is not None and now > self._last_sample[0]:
            at, before = self._last_sample
            self.rate = (count - before if count >= before else count) / (now - at)
        self._last_sample = now, count


Row = tuple[str, str, RenderableType]
"""Name, value, and the content beside it."""


def framed_rows(title: str, rows: Iterable[Row], subtitle: str) -> RenderableType:
    """Return the rows in a frame, with none of them folded. The texts must be `printable`."""
    grid = Table.grid(expand=True, padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(no_wrap=True, justify="right", min_width=11)
    grid.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
    for name, value, beside in rows:
        grid.add_row(Text(name), Text(value), beside)
    return Panel(grid, title=Text(title), title_align="left", subtitle=Text(subtitle), subtitle_align="right")


def fit_rows(rows: list[Row], console: Console, other_rows: int) -> list[Row]:
    """Return the rows that fit on the screen below `other_rows` other rows and a few log lines.

    When some are left out, a last row gives their number.
    """
    room = max(1, console.height - other_rows - _FRAME_LINES - _RESERVED_LOG_LINES)
    if len(rows) <= room:
        return rows
    return [*rows[: room - 1], (f"and {len(rows) - room + 1} more", "", "")]


def format_event_counts(counts: Mapping[str, int]) -> Text:
    """Return the names and counts of the events that happened at all."""
    words = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return Text(words or "none", style="yellow" if words else "")


def format_elapsed(seconds: float) -> str:
    """Return the time in a form such as `1:02:03`."""
    return str(timedelta(seconds=int(seconds)))
