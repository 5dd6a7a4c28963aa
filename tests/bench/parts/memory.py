"""memory: what a subscriber holds at most."""

from __future__ import annotations

import time
from functools import partial

from tests.bench.arena import Arena, arena
from tests.bench.parts.consuming import our_figures, our_subscriber
from tests.bench.parts.scale import Say, Scale
from tests.bench.tables import Figures, Part, alternate

WAITING = 1_000_000
AWAY = 60.0
"""Seconds without a database."""


def memory(scale: Scale, say: Say) -> Part:
    """The window and `pipeline.queue_limit` bound it, whatever waits in the broker."""
    with arena() as place:
        rows = alternate(
            {
                f"{scale.messages(WAITING):,} wait in the broker": partial(_backlog, place, scale.messages(WAITING)),
                f"no database for {AWAY * scale.factor:g} s": partial(
                    _away, place, scale.messages(WAITING), AWAY * scale.factor
                ),
            },
            1,
            say,
        )
    return Part("memory", "peak memory of the subscriber", rows)


def _backlog(place: Arena, messages: int) -> Figures:
    """The session is made, the subscriber leaves, the messages come, it returns."""
    place.new_table()
    with place.sensorsync("subscribe", "--max-messages", "1") as first:
        first.said('"event": "connected"')
        place.sensorsync("stress-publish", "--json", "--messages", "1", "--run", "first").end()
        first.end()
    place.sensorsync("stress-publish", "--json", "--messages", str(messages)).end()
    with place.sensorsync("subscribe", "--leave", "--max-messages", str(messages)) as subscriber:
        return our_figures(subscriber.end(), messages)


def _away(place: Arena, messages: int, seconds: float) -> Figures:
    """The database is killed while messages flow."""
    with our_subscriber(place, messages) as subscriber:
        words = ["stress-publish", "--json", "--messages", str(messages), "--processes", "2"]
        with place.sensorsync(*words) as publisher:
            subscriber.said('"event": "status"')
            place.database.freeze()
            time.sleep(seconds)
            place.database.thaw()
            figures = our_figures(subscriber.end(), messages)
            publisher.end()
    return figures
