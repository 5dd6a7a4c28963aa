"""The output of `tune-db`: the report, or the variables that were set and restored."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sensorsync.console.escape import printable
from sensorsync.console.logs import is_json

_SIZE_SUFFIXES: Final = ("_size", "_capacity", "_packet")
_COUNT_SUFFIXES: Final = ("io_capacity",)
_SIZE_UNITS: Final = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_STATUS_STYLES: Final = {
    "set": ("set", "green"),
    "persisted": ("persisted", "green"),
    "restored": ("restored", "green"),
    "unchanged": ("unchanged", "dim"),
    "restart": ("restart needed", "yellow"),
    "by_hand": ("by hand", "yellow"),
    "failed": ("FAILED", "bold red"),
}
_MAX_TEXT_WIDTH: Final = 110


class TuneDbView:
    """The display of the current step on stderr, only on a terminal.

    Use it as `with TuneDbView() as view: tune_db.run(settings, options, view.show)`.
    """

    def __init__(self) -> None:
        live = sys.stderr.isatty() and not is_json()
        self._status = Console(file=sys.stderr).status("") if live else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, stage: str) -> None:
        """Show the step that begins."""
        if self._status is not None:
            self._status.update(Text(f"{stage} ..."))
            self._status.start()


def render(data: Mapping[str, Any], console: Console) -> None:
    """Print the my.cnf snippet alone, the restored variables, or the report."""
    if "config_file" in data:
        sys.stdout.write(data["config_file"])
        return
    service = f" ({data['service']})" if data["service"] else ""
    console.print(Text(f"{printable(data['database'])}{service}", style="bold"))
    if "reverted" in data:
        _print_reverted(data, console)
        return
    sized = f", sized to {_format_memory(data['memory_bytes'])} of memory" if data["memory_bytes"] else ""
    _print_paragraph(f"Profile {data['profile']}{sized}. {data['loss']}", console)
    _print_advice(data, console)
    if data["measured"]:
        _print_measurements(data["measured"], console)
    for note in (*data["notes"], data["untouched"]):
        console.print()
        _print_paragraph(note, console)
    if data["undo_file"]:
        console.print()
        console.print(Text(f"Undo: sensorsync tune-db --revert (from {printable(data['undo_file'])})"), soft_wrap=True)


def _print_advice(data: Mapping[str, Any], console: Console) -> None:
    chosen = [one for one in data["advice"] if one["changes"]]
    if chosen:
        console.print()
    head = ("Variable", "Before" if data["applied"] else "Now", "Advised", "Dynamic")
    widths = [max(map(len, column)) for column in zip(head, *map(_cells, chosen), strict=True)]
    if chosen:
        console.print(Text(_format_line(head, widths), style="bold"))
    for one in chosen:
        mark, style = _STATUS_STYLES.get(one["status"] or "", ("", ""))
        console.print(Text.assemble(_format_line(_cells(one), widths), "  " if mark else "", (mark, style)))
        for text in _format_remarks(one):
            _print_paragraph(text, console, indent=4)
    fine = [
        f"{one['variable']} = {format_variable(one['variable'], one['now'])}"
        for one in data["advice"]
        if not one["changes"]
    ]
    if fine:
        console.print()
        _print_paragraph(f"{'As advised' if chosen else 'All is as advised'}: {', '.join(fine)}.", console)


def _cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    name = one["variable"]
    return (
        name,
        format_variable(name, one["now"]),
        format_variable(name, one["advised"]),
        "yes" if one["dynamic"] else "no",
    )


def _format_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _format_remarks(one: Mapping[str, Any]) -> Iterator[str]:
    if one["message"] and one["status"] not in {"restart", "by_hand"}:
        yield f"{one['message']}."
    yield f"Why: {one['why']}."
    if one["risk"]:
        yield f"Risk: {one['risk']}."


def _print_reverted(data: Mapping[str, Any], console: Console) -> None:
    for one in data["reverted"]:
        mark, style = _STATUS_STYLES[one["status"]]
        name = one["variable"]
        change = (
            f"{format_variable(name, one['before'])} -> {format_variable(name, one['now'])}"
            if one["before"] != one["now"]
            else format_variable(name, one["now"])
        )
        console.print(Text.assemble(f"  {name:<31}  {change}  ", (mark, style)))
        if one["message"]:
            _print_paragraph(one["message"], console, indent=4)
    if data["undo_file"]:
        console.print(Text(f"What was not restored stays in {printable(data['undo_file'])}"), soft_wrap=True)


def _print_measurements(measured: Mapping[str, Any], console: Console) -> None:
    before = measured["before"]
    table = Table(box=None, pad_edge=False)
    table.add_column("Measured")
    for when in measured:
        table.add_column(when, justify="right")
    for name, key in (("commit of one row, p50", "commit_p50"), ("commit of one row, p99", "commit_p99")):
        table.add_row(name, *(f"{one[key] * 1000:,.2f} ms" for one in measured.values()))
    rows = f"rows/s, {before['connections']} connections, batches of {before['batch']:,}"
    table.add_row(rows, *(f"{one['rows_per_second']:,.0f}" for one in measured.values()))
    console.print()
    console.print(table)


def format_variable(name: str, text: str) -> str:
    """Return a value for people: sizes have a unit."""
    if text.isdecimal() and name.endswith(_SIZE_SUFFIXES) and not name.endswith(_COUNT_SUFFIXES):
        size = int(text)
        for unit, factor in _SIZE_UNITS:
            if size >= factor and size * 4 % factor == 0:
                return f"{size / factor:g} {unit}"
    return printable(text) or "(empty)"


def _format_memory(size: int) -> str:
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _print_paragraph(text: str, console: Console, *, indent: int = 0) -> None:
    margin = " " * indent
    width = min(console.width, _MAX_TEXT_WIDTH) if console.is_terminal else console.width
    for line in wrap(printable(text), max(30, width - indent)):
        console.print(Text(margin + line), soft_wrap=True)
