"""Figures of several rounds -> medians, ratios, a table for people and a document for machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Figures:
    """What one measurement gave."""

    rate: float | None = None
    """Messages per second."""
    cpu: float | None = None
    """Microseconds of the measured process per message."""
    rss: int | None = None
    """Bytes: the most that one process held."""
    more: Mapping[str, float | str] = field(default_factory=dict)
    """Further columns."""


Contestant = Callable[[], Figures]


@dataclass(frozen=True, slots=True)
class Row:
    """The medians of one contestant."""

    name: str
    rounds: Sequence[Figures]

    def median(self, figure: Callable[[Figures], float | None]) -> float | None:
        """The median of a figure, None where it was not measured."""
        found = [value for value in map(figure, self.rounds) if value is not None]
        return median(found) if found else None

    @property
    def rate(self) -> float | None:
        """Messages per second."""
        return self.median(lambda figures: figures.rate)

    def more(self, column: str) -> float | str | None:
        """The median of a further column; of words, the last."""
        found = [figures.more[column] for figures in self.rounds if column in figures.more]
        numbers = [value for value in found if not isinstance(value, str)]
        return median(numbers) if numbers else found[-1] if found else None


@dataclass(frozen=True, slots=True)
class Part:
    """The outcome of one part of the benchmark; the last row is what the ratios are of."""

    name: str
    title: str
    rows: Sequence[Row]

    def as_data(self) -> dict[str, Any]:
        """For machines: every round, and the medians."""
        base = self.rows[-1].rate
        return {
            "part": self.name,
            "title": self.title,
            "rows": [
                {
                    "name": row.name,
                    "rate": row.rate,
                    "ratio": row.rate / base if row.rate and base else None,
                    "cpu_us": row.median(lambda figures: figures.cpu),
                    "rss": row.median(lambda figures: figures.rss),
                    **{column: row.more(column) for column in _columns([row])},
                    "rates": [figures.rate for figures in row.rounds],
                }
                for row in self.rows
            ],
        }

    def print(self, console: Console) -> None:
        """For people. A column that nobody filled is left out."""
        base = self.rows[-1].rate
        cells: dict[str, list[str]] = {
            "messages/s": [_number(row.rate, ",.0f") for row in self.rows],
            "ratio": [_number(row.rate / base if row.rate and base else None, ".2f") for row in self.rows],
            "CPU us/message": [_number(row.median(lambda figures: figures.cpu), ".1f") for row in self.rows],
            "peak MiB": [_number(_in_megabytes(row.median(lambda figures: figures.rss)), ".0f") for row in self.rows],
            **{column: [_shown(row.more(column)) for row in self.rows] for column in _columns(self.rows)},
        }
        filled = {column: texts for column, texts in cells.items() if any(texts)}
        table = Table("", title=self.title)
        for column in filled:
            table.add_column(column, justify="right")
        for number, row in enumerate(self.rows):
            table.add_row(row.name, *(texts[number] for texts in filled.values()))
        console.print(table)


def alternate(contestants: Mapping[str, Contestant], rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Every contestant in turn, round after round, so that a slow minute of the machine meets them all."""
    found: dict[str, list[Figures]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, measure in contestants.items():
            found[name].append(figures := measure())
            rate = "" if figures.rate is None else f"{figures.rate:,.0f}/s "
            say(f"  round {number + 1}: {name}: {rate}{dict(figures.more) or ''}")
    return [Row(name, measured) for name, measured in found.items()]


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for figures in row.rounds for column in figures.more))


def _in_megabytes(size: float | None) -> float | None:
    return None if size is None else size / MEGABYTE


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _shown(value: float | str | None) -> str:
    return value if isinstance(value, str) else _number(value, ",.1f")
