"""The text of `map`: for each message its mapping, its rows, and the reasons for rejected parts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sensorsync.console.escape import printable
from sensorsync.console.live import LiveView, live_screen

READINGS: Final = "sensor_readings"
_READING_COLUMNS: Final = ("device_id", "metric", "ts", "value", "unit", "event_id")
"""Columns of a reading. Topic, time of arrival and payload are in the message above it."""
_MAX_NAMED: Final = 5
"""Topics, and mappings for other topics, that are listed, at most."""
_UNWRAPPED_COLUMNS: Final = frozenset({"#", "ts", "unit", "event_id"})
"""Columns of readings that the table does not shorten."""
_SHORT_ID_LENGTH: Final = 8
"""Characters of an event_id that are shown where there is no room for all of it."""
_COLUMN_GAP: Final = 2
_INDENT: Final = 2


class MapView(LiveView):
    """The display of the number of messages on stderr, only on a terminal.

    Use it as `with MapView(20) as view: map_live(settings, options, view.show)`.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        console = live_screen()
        self._status = None if console is None else console.status(Text("connecting ..."))
        super().__init__(self._status)

    def show(self, messages: int) -> None:
        """Show the number of messages that have come."""
        if self._status is not None:
            self._status.update(Text(f"{messages:,} of {self._limit:,} messages; Ctrl-C shows those"))


def render(data: Mapping[str, Any], console: Console) -> None:
    """Print message by message, and the sums."""
    for message in data["messages"]:
        _print_message(message, data, console)
        console.print()
    for bad in data["bad_lines"]:
        console.print(
            Text(printable(f"line {bad['line']} is no sample: {bad['message']}"), style="red"), soft_wrap=True
        )
    console.print(Text(_format_summary(data), style="bold"))
    if strange := list(dict.fromkeys(one["topic"] for one in data["messages"] if not one["subscribed"])):
        more = f" and {len(strange) - _MAX_NAMED} more" if len(strange) > _MAX_NAMED else ""
        words = f"Note: `subscribe` does not get these topics, they are not in mqtt.topics: {', '.join(strange[:_MAX_NAMED])}{more}"
        console.print(Text(printable(words)))


def _print_message(message: Mapping[str, Any], data: Mapping[str, Any], console: Console) -> None:
    line = "" if message["line"] is None else f"line {message['line']}: "
    console.print(Text(line) + Text(printable(message["topic"]), style="bold"), soft_wrap=True)
    size = f" ... ({message['size']:,} bytes)" if message["payload_truncated"] else ""
    payload = Text(printable(message["payload"]) + size, style="dim", no_wrap=True, overflow="ellipsis")
    console.print(_indent(payload))
    console.print(_indent(Text(printable(_format_outcome(message, data["mappings"])))))
    for words in _format_skipped_mappings(message):
        console.print(_indent(Text(printable(words)), 4))
    several = len(message["rows"]) + len(message["rejected"]) > 1
    for table, rows in groupby(message["rows"], key=lambda row: row["table"]):
        console.print(_indent(_row_table(table, list(rows), console.width - _INDENT, with_index=several)))
    for row in message["rows"]:
        if row["repeats"] is not None:
            index = f" [{row['index']}]" if several else ""
            words = f"row{index} has the same key as {_format_row_reference(row['repeats'], data['messages'])}: only one of them stays"
            console.print(_indent(Text(words, style="yellow")))
    for part in message["rejected"]:
        index = f" [{part['index']}]" if several else ""
        words = f"rejected{index}, {part['reason']}: {part['message']}"
        console.print(_indent(Text(printable(words), style="red")))


def _format_row_reference(earlier_row: Mapping[str, int], messages: Sequence[Mapping[str, Any]]) -> str:
    earlier = messages[earlier_row["message"]]
    where = f"message {earlier_row['message'] + 1}" if earlier["line"] is None else f"line {earlier['line']}"
    return f"row [{earlier_row['index']}] of {where}"


def _format_skipped_mappings(message: Mapping[str, Any]) -> list[str]:
    """Return the reasons why mappings were skipped for a message.

    Mappings for its topic are always listed, the others only when no mapping was used.
    """
    words = [
        (one["reason"] == "topic", f"not for mapping {one['mapping']}: {one['message']}")
        for one in message["passed_over"]
    ]
    near = [text for other_topic, text in words if not other_topic]
    far = [text for other_topic, text in words if other_topic]
    if message["mapping"] is not None:
        return near
    more = [f"nor for {len(far) - _MAX_NAMED} more, which have other topics"] if len(far) > _MAX_NAMED else []
    return [*near, *far[:_MAX_NAMED], *more]


def _indent(content: RenderableType, by: int = _INDENT) -> Padding:
    return Padding(content, (0, 0, 0, by), expand=False)


def _format_outcome(message: Mapping[str, Any], mappings: Sequence[str]) -> str:
    if message["mapping"] is not None:
        how = f"mapping {message['mapping']}"
    elif mappings and not message["passed_over"]:
        how = "no mapping was asked"
    elif mappings:
        how = "no mapping is for it, so it is taken as a plain reading"
    else:
        how = "plain reading (no mappings are configured)"
    rows, rejected = len(message["rows"]), len(message["rejected"])
    counts = [f"{rows:,} row{'' if rows == 1 else 's'}"] * bool(rows) + [f"{rejected:,} rejected"] * bool(rejected)
    return f"{how}: {', '.join(counts)}"


def _row_table(name: str, rows: Sequence[Mapping[str, Any]], width: int, *, with_index: bool) -> Table:
    """Return a table of the rows.

    Columns of readings that are printed above the table are omitted. Rows of other tables are complete, with one column
    below the other where `width` is too small.
    """
    columns = _READING_COLUMNS if name == READINGS else tuple(rows[0]["columns"])
    cells = [[_format_cell(row["columns"], column) for column in columns] for row in rows]
    if with_index:
        columns = ("#", *columns)
        cells = [[str(row["index"]), *line] for row, line in zip(rows, cells, strict=True)]
    if name == READINGS:
        short = [[*line[:-1], f"{line[-1][:_SHORT_ID_LENGTH]}…"] for line in cells]
        if not _fits_width(columns, short, width):  # then everything else is shown in full, in folded lines
            return _horizontal_table(columns[:-1], [line[:-1] for line in cells])
        return _horizontal_table(columns, cells if _fits_width(columns, cells, width) else short)
    table = _horizontal_table(columns, cells) if _fits_width(columns, cells, width) else _vertical_table(columns, cells)
    table.title = Text(f"table {printable(name)}")
    return table


def _fits_width(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> bool:
    return (
        sum(max(map(cell_len, column)) + _COLUMN_GAP for column in zip(columns, *cells, strict=True)) - _COLUMN_GAP
        <= width
    )


def _horizontal_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _COLUMN_GAP, 0, 0), title_justify="left", title_style="")
    for column in columns:
        number = column in {"#", "value"}
        table.add_column(
            Text(printable(column)), no_wrap=column in _UNWRAPPED_COLUMNS, justify="right" if number else "left"
        )
    for line in cells:
        table.add_row(*(Text(cell, overflow="fold") for cell in line))
    return table


def _vertical_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, _COLUMN_GAP, 0, 0),
        title_justify="left",
        title_style="",
        show_header=False,
    )
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for line in cells:
        for column, cell in zip(columns, line, strict=True):
            table.add_row(Text(printable(column)), Text(cell))
    return table


def _format_cell(columns: Mapping[str, Any], name: str) -> str:
    value = columns[name]
    if name == "value" and value is None:
        value = columns.get("value_text")
        shown = "-" if value is None else json.dumps(value, ensure_ascii=False)
    else:
        shown = "-" if value is None else _format_value(value)
    return printable(shown)


def _format_value(value: Any) -> str:
    """Return the value as it is stored, not rounded, because the user checks here what is stored."""
    return value if isinstance(value, str) else json.dumps(value)


def _format_summary(data: Mapping[str, Any]) -> str:
    messages = _pluralize(len(data["messages"]), "message")
    if data["listened"] is not None:
        messages += f" in {data['listened']['seconds']:.1f} s from {printable(', '.join(data['listened']['topics']))}"
    repeated = sum(row["repeats"] is not None for message in data["messages"] for row in message["rows"])
    sums: Iterable[str] = (
        _pluralize(data["rows"], "row") + (f" ({repeated:,} with the key of an earlier one)" if repeated else ""),
        *([f"{_pluralize(data['parked'], 'message')} would be parked"] if data["parked"] else []),
        *([f"{_pluralize(len(data['bad_lines']), 'bad line')}"] if data["bad_lines"] else []),
    )
    return f"{messages}: {', '.join(sums)}. Nothing was stored."


def _pluralize(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
