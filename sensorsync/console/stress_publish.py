"""What `stress-publish` shows: a bar while it runs, on a terminal; a log line every few seconds elsewhere; and its outcome."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from sensorsync.commands.stress_publish import Progress as Where
from sensorsync.console import audit
from sensorsync.console.escape import printable
from sensorsync.console.logs import is_json
from sensorsync.console.table import as_text

log = logging.getLogger(__name__)

LINE_SECONDS = 2.0
MACHINE_SECONDS = 0.25
"""A reader of JSON lines, such as `demo`, draws a bar of its own."""


class View:
    """`with View() as view: stress_publish.run(settings, options, view.show)`. It writes to stderr alone."""

    def __init__(self) -> None:
        self._stage = ""
        self._last = 0.0
        self._every = MACHINE_SECONDS if is_json() else LINE_SECONDS
        self._live: Progress | None = None
        if sys.stderr.isatty() and not is_json():
            columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._live = Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(file=sys.stderr))
            self._acked = self._live.add_task("acknowledged", total=None, note="")
            self._stored = self._live.add_task("stored", total=None, note="", visible=False)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, where: Where) -> None:
        """One change."""
        if self._live is None:
            self._log(where)
            return
        rate = f" {where.rate:,.0f}/s" if where.rate else ""
        done = where.acked + where.not_acked
        self._live.update(self._acked, total=where.total, completed=done, note=where.stage + rate)
        if where.stored is not None:
            self._live.update(self._stored, total=where.acked, completed=where.stored, visible=True)

    def _log(self, where: Where) -> None:
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


def render(data: Mapping[str, Any], console: Console) -> None:
    """The outcome of a run."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    place = ("run", "file", "broker", "topic", "processes", "clients", "signed", "encrypted")
    counts = ("messages", "sent", "acked", "no_subscriber", "failed", "unacknowledged", "retransmitted", "reconnects")
    for name in (*place, *counts, "bad_lines"):
        if data.get(name) is not None:
            table.add_row(name.replace("_", " "), Text(printable(as_text(data[name]))))
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
