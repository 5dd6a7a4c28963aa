"""The parts of the benchmark, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.bench.parts import batches, consuming, growth, latency, mapping, memory, publishing
from tests.bench.parts.scale import Say, Scale
from tests.bench.tables import Part

__all__ = ["PARTS", "Scale"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One part: what it tells, and how it is run."""

    help: str
    run: Callable[[Scale, Say], Part]


PARTS: Mapping[str, Entry] = {
    "publish": Entry("every message acknowledged, nobody subscribed", publishing.publish),
    "consume": Entry("a backlog that waits in the broker is stored", consuming.consume),
    "end-to-end": Entry("published and stored at the same time, durably", consuming.end_to_end),
    "window": Entry(
        "the same where the broker sends at most 32 unacknowledged messages a connection", consuming.window
    ),
    "latency": Entry("open loop: from the moment a message was due to its PUBACK and to its row", latency.latency),
    "memory": Entry("the subscriber's memory with a backlog, and while the database is away", memory.memory),
    "growth": Entry("rows/s, million by million", growth.growth),
    "batches": Entry("batch size x writers x connections", batches.batches),
    "mapping": Entry("plain readings, and the same through a mapping", mapping.mapping),
    "durability": Entry("innodb_flush_log_at_trx_commit 0, 1 and 2", consuming.durability),
    "crypto": Entry("what signatures and encryption cost", publishing.crypto),
}
