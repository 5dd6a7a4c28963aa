"""The output of `demo`: its progress and its result.

On a terminal, two bars show the progress. Elsewhere each step is a log line.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from sensorsync.commands.demo import DemoProgress
from sensorsync.console.escape import printable
from sensorsync.console.live import LiveView, live_screen

log = logging.getLogger(__name__)


class DemoView(LiveView):
    """The display of the progress on stderr.

    Use it as `with DemoView() as view: demo.run(options, view.show)`.
    """

    def __init__(self) -> None:
        self._stage = ""
        self._live: Progress | None = None
        if (console := live_screen()) is not None:
            columns = (
                TextColumn("{task.description}", table_column=Column(min_width=12)),
                BarColumn(bar_width=None, table_column=Column(ratio=1)),
                MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=13, justify="right")),
                TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
                TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, min_width=28, overflow="ellipsis")),
            )
            self._live = Progress(*columns, console=console, expand=True)
            self._acked_task = self._live.add_task("acknowledged", total=None, note="")
            self._stored_task = self._live.add_task("stored", total=None, note="")
        super().__init__(self._live)

    def show(self, progress: DemoProgress) -> None:
        """Show the progress after a change."""
        if self._live is None:
            if progress.stage != self._stage:
                log.info(
                    "%s", progress.stage, extra={"event": "stage", "acked": progress.acked, "stored": progress.stored}
                )
        else:
            rate = f"{progress.rate:,.0f}/s" if progress.rate else ""
            self._live.update(self._acked_task, total=progress.total, completed=progress.acked, note=progress.stage)
            self._live.update(
                self._stored_task, total=progress.total, completed=progress.stored + progress.parked, note=rate
            )
        self._stage = progress.stage


def render(data: Mapping[str, Any], console: Console) -> None:
    """Print the result: a table, and one sentence that explains it."""
    if "published" not in data:  # it ended too early; the errors give the reason
        if data.get("folder"):
            console.print(Text(f"Kept in {printable(data['folder'])}"))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name in ("published", "acked", "stored", "missing", "redelivered", "parked"):
        table.add_row(name, f"{data[name]:,}")
    table.add_row("publishing", f"{data['published_per_second']:,.0f}/s")
    table.add_row("end to end", f"{data['stored_per_second']:,.0f}/s")
    console.print(table)
    way = f"{data['broker']} -> subscribe -> {data['driver']}"
    if data["missing"]:
        verdict = f"{data['missing']:,} of {data['published']:,} messages did not arrive ({way})."
    else:
        verdict = f"Every message arrived ({way}, {data['seconds']:.1f} s)."
    console.print(Text(verdict, style="red" if data["missing"] else "green"))
    for fault in data.get("faults", ()):
        what = f"{fault['fault']} ({fault['target']}), {fault['stored']:,} stored"
        console.print(Text(printable(f"{fault['at']:6.1f} s  {what}; mended after {fault['seconds']:.1f} s")))
    if data["folder"]:
        again = [
            "sensorsync",
            "--config",
            data["config"],
            *(["audit", data["run"]] if data["run"] else ["dlq", "inspect"]),
        ]
        console.print(Text(printable(f"Kept in {data['folder']}: {shlex.join(again)}")))
