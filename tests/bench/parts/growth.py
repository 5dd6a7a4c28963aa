"""growth: whether the table's size slows the pipeline down."""

from __future__ import annotations

from tests.bench.arena import arena
from tests.bench.parts.consuming import our_figures
from tests.bench.parts.scale import Say, Scale
from tests.bench.tables import Figures, Part, Row

MILLION = 1_000_000
MILLIONS = 10


def growth(scale: Scale, say: Say) -> Part:
    """Million by million into one table, each with its own run; with a scale of less than 1 there are fewer of them."""
    count = max(2, round(MILLIONS * scale.factor))
    rows = []
    with arena() as place:
        place.new_table()
        for number in range(1, count + 1):
            with place.sensorsync("subscribe", "--ephemeral", "--max-messages", str(MILLION)) as subscriber:
                subscriber.said('"event": "connected"')
                words = ["stress-publish", "--json", "--messages", str(MILLION), "--processes", "2"]
                with place.sensorsync(*words) as publisher:
                    figures = our_figures(subscriber.end(), MILLION)
                    publisher.end()
            say(f"  million {number}: {figures.rate:,.0f}/s")
            rows.append(Row(f"million {number}", [Figures(figures.rate, figures.cpu, figures.rss)]))
    return Part("growth", "rows/s as the table grows (ratio to the first million)", [*rows[1:], rows[0]])
