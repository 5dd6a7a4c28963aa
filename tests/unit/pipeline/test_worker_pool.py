"""The pool of writers: the failure of a thread is reported, and its batch is no longer assigned."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable

import pytest

from sensorsync.pipeline.batcher import Batch
from sensorsync.pipeline.contract import Delivery, FlushReason, WriteReport
from sensorsync.pipeline.worker_pool import WriterPool
from sensorsync.pipeline.writer import BatchWriter, RejectionBreaker
from sensorsync.runtime.backoff import Backoff
from tests.pipelines import Box, Database, decode

BATCH = Batch([Delivery("t", b"1", 1, 0.0, None)], FlushReason.FULL)


class Death(BaseException):
    """An error that is not an Exception, so that `except Exception` does not catch it."""


class DeadlyInbox(queue.SimpleQueue[Batch | None]):
    """A queue that raises when the second batch is taken."""

    waits = 0

    def get(self, block: bool = True, timeout: float | None = None) -> Batch | None:
        self.waits += 1
        if self.waits == 2:
            raise Death
        return super().get(block, timeout)


def make_writer(number: int, pause: Callable[[float], bool]) -> BatchWriter:
    return BatchWriter(
        number, Database(), Box(), decode, backoff=Backoff(0.01, 0.05), pause=pause, breaker=RejectionBreaker()
    )


def test_a_writer_that_fails_after_it_returned_its_batch_does_not_return_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # That was a KeyError in the event loop, and the stop then waited until its deadline for a batch that no writer had.
    async def scenario() -> None:
        returned: list[WriteReport | None] = []
        died: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        pool = WriterPool(
            1,
            make_writer,
            on_returned=lambda batch, report: returned.append(report),
            on_failed=died.set_result,
        )
        monkeypatch.setattr(pool, "_inbox", DeadlyInbox())
        pool.start()
        pool.submit(BATCH)
        assert isinstance(await asyncio.wait_for(died, 5), Death)
        assert pool.idle
        assert [report is not None and report.messages_stored for report in returned] == [1]

    asyncio.run(scenario())
