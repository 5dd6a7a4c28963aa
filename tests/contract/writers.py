"""Four writers of one store at once, on keys that they share."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence

from sensorsync.pipeline.contract import Row, SinkUnavailable
from sensorsync.storage.store import Store

RowsOf = Callable[[random.Random, Sequence[int], int], Sequence[Row]]
"""(random numbers, numbers of the rows from 0 to 59, turn) -> a batch."""


def four_at_once(store: Store, turns: int, rows_of: RowsOf) -> tuple[list[int], list[Exception]]:
    """How many rows each write found new, and what was unavailable (a deadlock is)."""
    errors: list[Exception] = []
    new: list[int] = []
    barrier = threading.Barrier(4)

    def work(worker: int) -> None:
        random_numbers = random.Random(worker)
        sink = store.create_sink(worker)
        barrier.wait(10)
        for turn in range(turns):
            rows = rows_of(random_numbers, random_numbers.sample(range(60), 40), turn)
            try:
                new.append(sink.write(rows))
            except SinkUnavailable as error:
                errors.append(error)
        sink.close()

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    return new, errors
