"""The output of `check-cloud`: on a terminal the current step, and at the end the list of all steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.text import Text

from sensorsync.console.escape import printable
from sensorsync.console.live import LiveView, live_screen
from sensorsync.mqtt.check import Step

_STATUS_STYLES = {
    "passed": ("ok", "green"),
    "warned": ("warn", "yellow"),
    "failed": ("FAIL", "bold red"),
    "skipped": ("-", "dim"),
}


class CheckCloudView(LiveView):
    """The display of the current step on stderr, only on a terminal.

    Use it as `with CheckCloudView() as view: check_cloud.run(settings, options, view.show)`.
    """

    def __init__(self) -> None:
        console = live_screen()
        self._status = None if console is None else console.status("")
        super().__init__(self._status)

    def show(self, step: Step) -> None:
        """Show the step that begins."""
        if self._status is not None:
            self._status.update(Text(f"{step.label} ..."))


def render(data: Mapping[str, Any], console: Console) -> None:
    """Print the list of the steps, and the verdict under it."""
    protocol = ("ws" if data["transport"] == "websockets" else "mqtt") + ("s" if data["tls"] else "")
    console.print(Text(printable(f"Broker {protocol}://{data['broker']}, topic {data['topic']}"), style="bold"))
    for step in data["steps"]:
        mark, style = _STATUS_STYLES[step["status"]]
        seconds = f"{step['seconds'] * 1000:,.0f} ms" if step["status"] != "skipped" else ""
        margin = f"{mark:<4}  {step['label']:<11}  {seconds:>9}  "
        lines = [
            row
            for text in (step["summary"], *_format_hints(step))
            for row in _wrap_text(printable(text), console, len(margin))
        ]
        console.print(Text.assemble((margin[:4], style), margin[4:], lines[0]))
        for row in lines[1:]:
            console.print(Text(" " * len(margin) + row))
    for warning in data["warnings"]:
        console.print(Text(f"Warning: {printable(warning['message'])}"))
    console.print(Text(f"{printable(data['verdict'])} ({data['seconds']:.1f} s)", style="bold"))


def _wrap_text(text: str, console: Console, margin: int) -> list[str]:
    return wrap(text, max(20, console.width - margin)) or [""]


def _format_hints(step: Mapping[str, Any]) -> Iterator[str]:
    failure = step["failure"]
    if failure is not None:
        yield f"Fix: {failure['hint'] or 'try again later'}."
    for warning in step["warnings"]:
        yield f"Warning: {warning['message']}."
        if warning["hint"]:
            yield f"Fix: {warning['hint']}."
