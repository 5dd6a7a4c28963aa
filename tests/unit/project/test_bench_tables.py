"""The arithmetic of the benchmark: medians, ratios, turns."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from tests.bench.tables import Figures, Part, Row, alternate


def test_contestants_take_turns_so_that_a_slow_minute_meets_them_all() -> None:
    order: list[str] = []

    def measure(name: str, rate: float) -> Figures:
        order.append(name)
        return Figures(rate)

    said: list[str] = []
    rows = alternate({"a": lambda: measure("a", 10.0), "b": lambda: measure("b", 2.0)}, 2, said.append)

    assert order == ["a", "b", "a", "b"]
    assert [row.name for row in rows] == ["a", "b"]
    assert len(said) == 4


def test_ratios_are_of_medians_and_to_the_last_row() -> None:
    part = Part("p", "title", [Row("a", [Figures(90.0), Figures(10.0), Figures(20.0)]), Row("b", [Figures(5.0)])])
    rows = part.as_data()["rows"]
    assert [(row["rate"], row["ratio"]) for row in rows] == [(20.0, 4.0), (5.0, 1.0)]
    assert rows[0]["rates"] == [90.0, 10.0, 20.0]


def test_a_column_that_nobody_filled_is_left_out() -> None:
    console = Console(file=(written := StringIO()), width=100)
    Part("p", "title", [Row("a", [Figures(rss=3 * 1024 * 1024, more={"row p99": 12.5, "loses": "nothing"})])]).print(
        console
    )
    text = written.getvalue()
    assert "messages/s" not in text
    assert "ratio" not in text
    assert all(word in text for word in ("peak MiB", "3", "row p99", "12.5", "loses", "nothing"))
