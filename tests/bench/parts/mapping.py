"""mapping: what it costs to take a reading out of any JSON instead of reading our own form."""

from __future__ import annotations

import json
from functools import partial

from tests.bench.arena import arena
from tests.bench.parts.consuming import our_backlog
from tests.bench.parts.scale import Say, Scale
from tests.bench.tables import Part, alternate

MESSAGES = 200_000
FIELDS = {
    "device_id": {"path": "device_id"},
    "event_id": {"path": "event_id"},
    "ts": {"path": "ts"},
}
ONE = {"name": "one", "topic": "sensors/{level}/#", **FIELDS, "metric": {"path": "metric"}, "value": {"path": "value"}}
TWO = {
    "name": "two",
    "topic": "sensors/{level}/#",
    **FIELDS,
    "readings": [
        {"metric": {"constant": "load"}, "value": {"path": "value"}},
        {"metric": {"constant": "place"}, "value": {"path": "seq"}},
    ],
}


def mapping(scale: Scale, say: Say) -> Part:
    """The same backlog of signed messages each time; the second mapping stores two rows for each."""
    messages = scale.messages(MESSAGES)
    with arena() as place:
        contestants = {
            f"through a mapping, {name}": partial(
                our_backlog, place, messages, rows, SENSORSYNC_MAPPINGS=json.dumps([spec])
            )
            for name, rows, spec in (("one row", 1, ONE), ("two rows", 2, TWO))
        }
        contestants["plain readings"] = partial(our_backlog, place, messages)
        measured = alternate(contestants, scale.rounds, say)
    return Part("mapping", f"a backlog of {messages:,}, plain and mapped", measured)
