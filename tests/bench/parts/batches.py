"""batches: what the size of a batch, the writers and the connections do to the rate at which a backlog is stored."""

from __future__ import annotations

from functools import partial
from itertools import product

from tests.bench.arena import arena
from tests.bench.parts.consuming import our_backlog
from tests.bench.parts.scale import Say, Scale
from tests.bench.tables import Part, alternate

MESSAGES = 150_000
SIZES = (100, 300, 1_000, 3_000, 10_000)
WORKERS = (1, 2, 4)
CONNECTIONS = (1, 4)


def batches(scale: Scale, say: Say) -> Part:
    """A backlog: then every batch is full, and the size is what it says. The last row is the default (`auto` connections)."""
    messages = scale.messages(MESSAGES)
    with arena() as place:
        contestants = {
            f"{size:,} messages, {workers} writers, {connections} connections": partial(
                our_backlog,
                place,
                messages,
                SENSORSYNC_PIPELINE__BATCH_SIZE=str(size),
                SENSORSYNC_PIPELINE__WORKERS=str(workers),
                SENSORSYNC_MQTT__CONNECTIONS=str(connections),
            )
            for size, workers, connections in product(SIZES, WORKERS, CONNECTIONS)
        }
        contestants["the defaults: 1,000 messages, 2 writers"] = partial(our_backlog, place, messages)
        rows = alternate(contestants, scale.rounds, say)
    return Part("batches", f"a backlog of {messages:,}: batch size, writers, connections (ratio to the defaults)", rows)
