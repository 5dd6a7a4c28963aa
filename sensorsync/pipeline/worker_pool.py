"""The writers' threads, and the batches that are assigned to them.

A batch is passed to a thread by a queue, and returned by `call_soon_threadsafe`. Nothing else is shared with the event loop's
thread, on which all methods are called.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from sensorsync.pipeline.batcher import Batch
from sensorsync.pipeline.contract import Delivery, FlushReason, WriteReport
from sensorsync.pipeline.writer import BatchKept, BatchWriter

_LEAST_WAIT = 0.01
"""Seconds that a batch is waited for before set-aside messages are tried again."""

WriterFactory = Callable[[int, Callable[[float], bool]], BatchWriter]
"""The type of `make_writer(number, pause)`, which is called in the writer's thread."""


class WriterPool:
    """A pool of `count` threads with a BatchWriter each.

    `on_returned(batch, report)` is called when a writer returns a batch; a report of None means that the batch was kept.
    `on_failed(error)` is called when a thread ends with an exception. Its batch is kept, and the other threads end, too, once they
    have returned theirs.
    """

    def __init__(
        self,
        count: int,
        make_writer: WriterFactory,
        *,
        on_returned: Callable[[Batch, WriteReport | None], None],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        self._make_writer = make_writer
        self._on_returned = on_returned
        self._on_failed = on_failed
        self._retries_aborted = threading.Event()
        self._inbox: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._assigned: dict[int, Batch] = {}
        self._set_aside: dict[int, tuple[Delivery, float]] = {}
        """Deliveries that a writer tries again beside its batches, by identity, each with its arrival."""
        self._running_threads = count
        self._threads = [
            threading.Thread(target=self._run_writer, args=(number,), name=f"writer-{number}", daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        """Start the threads. The callbacks are called on the running event loop."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    @property
    def idle(self) -> bool:
        """True when no batch is assigned to a writer."""
        return not self._assigned

    @property
    def has_free_writer(self) -> bool:
        """True when a writer would start on a batch at once."""
        return len(self._assigned) < len(self._threads)

    @property
    def has_room(self) -> bool:
        """True when another batch may be submitted: one in work and one ahead for each writer."""
        return len(self._assigned) < 2 * len(self._threads)

    def deliveries(self) -> Iterator[Delivery]:
        """Return all deliveries that are assigned to writers or set aside by them."""
        yield from (delivery for batch in self._assigned.values() for delivery in batch.deliveries)
        yield from (delivery for delivery, _ in self._set_aside.values())

    @property
    def set_aside_count(self) -> int:
        """The number of deliveries that are neither stored nor parked because it is not known whether they are at fault."""
        return len(self._set_aside)

    @property
    def oldest_arrival(self) -> float | None:
        """The time of arrival of the oldest delivery that a writer has; None when there is none."""
        oldest = [batch.arrivals[0][1] for batch in self._assigned.values() if batch.arrivals]
        return min([*oldest, *(arrival for _, arrival in self._set_aside.values())], default=None)

    def submit(self, batch: Batch) -> None:
        """Submit a batch to the next free writer."""
        self._assigned[id(batch)] = batch
        self._inbox.put(batch)

    def abort_retries(self) -> None:
        """Abort the waits for the database or the dead-letter box. The writers return their batches as kept."""
        self._retries_aborted.set()

    def cancel_pending(self) -> None:
        """Cancel the batches that no writer has started, after a failure. They stay unacknowledged.

        Each thread ends once it has returned the batch that it works on.
        """
        with suppress(queue.Empty):
            while True:
                if (batch := self._inbox.get_nowait()) is not None:
                    del self._assigned[id(batch)]
        for _ in range(self._running_threads):
            self._inbox.put(None)

    async def shutdown(self, timeout: float) -> None:
        """End the threads, and wait for them for up to `timeout` seconds.

        A thread that hangs in the database for longer does not block the exit of the process, because it is a daemon.
        """
        self.abort_retries()
        for _ in self._threads:
            self._inbox.put(None)
        last = self._loop.time() + timeout
        while any(thread.is_alive() for thread in self._threads) and self._loop.time() < last:  # noqa: ASYNC110
            await asyncio.sleep(
                0.01
            )  # not a join in the executor, whose threads may be blocked by hanging name look-ups

    def _pause(self, seconds: float) -> bool:
        return not self._retries_aborted.wait(seconds)

    def _run_writer(self, number: int) -> None:
        """Run one writer in its thread until the queue delivers None. Any exception is reported to the pool."""
        writer: BatchWriter | None = None
        batch: Batch | None = None
        try:
            writer = self._make_writer(number, self._pause)
            while (batch := self._next_batch(writer)) is not None:
                try:
                    report = writer.write(batch.deliveries)
                except BatchKept:
                    self._call_on_loop(self._on_batch_done, batch, None)
                else:
                    self._call_on_loop(self._on_batch_done, batch, report)
        except BaseException as error:  # noqa: BLE001 - the end of a thread must not go unnoticed, whatever the reason
            self._call_on_loop(self._on_thread_failed, batch, error)
        else:
            self._call_on_loop(self._on_thread_ended)
        finally:
            if writer is not None:
                writer.close()

    def _next_batch(self, writer: BatchWriter) -> Batch | None:
        """Wait for a batch; meanwhile, and once between two batches, have the writer try what it has set aside."""
        due_in = writer.retry_due_in()
        while due_in is not None:
            if due_in <= 0.0:
                self._retry_set_aside(writer)
                due_in = writer.retry_due_in()
                if due_in is None:
                    break
            try:
                return self._inbox.get(timeout=max(due_in, _LEAST_WAIT))
            except queue.Empty:
                due_in = writer.retry_due_in()
        return self._inbox.get()

    def _retry_set_aside(self, writer: BatchWriter) -> None:
        if self._retries_aborted.is_set():
            return
        try:
            deliveries, report = writer.retry_set_aside()
        except BatchKept:
            return
        if deliveries:
            self._call_on_loop(self._on_set_aside_settled, deliveries, report)

    def _call_on_loop(self, callback: Callable[..., None], *args: object) -> None:
        """Call `callback` in the event loop's thread."""
        # RuntimeError: the loop is closed, because this thread hung for longer than `shutdown` waits. Its batch is kept.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    def _on_batch_done(self, batch: Batch, report: WriteReport | None) -> None:
        del self._assigned[id(batch)]
        if report is not None and report.set_aside:
            batch = self._keep_set_aside(batch, report.set_aside)
        self._on_returned(batch, report)

    def _keep_set_aside(self, batch: Batch, places: Collection[int]) -> Batch:
        """Keep the deliveries at `places`; return the batch without them."""
        arrivals = [when for count, when in batch.arrivals for _ in range(count)] or [self._loop.time()] * len(
            batch.deliveries
        )
        rest: list[Delivery] = []
        rest_arrivals: list[tuple[int, float]] = []
        for place, (delivery, arrival) in enumerate(zip(batch.deliveries, arrivals, strict=True)):
            if place in places:
                self._set_aside[id(delivery)] = delivery, arrival
            else:
                rest.append(delivery)
                rest_arrivals.append((1, arrival))
        return replace(batch, deliveries=rest, arrivals=rest_arrivals)

    def _on_set_aside_settled(self, deliveries: Sequence[Delivery], report: WriteReport) -> None:
        arrivals = [(1, self._set_aside.pop(id(delivery))[1]) for delivery in deliveries]
        self._on_returned(Batch(deliveries, FlushReason.LINGER, arrivals), report)

    def _on_thread_failed(self, batch: Batch | None, error: BaseException) -> None:
        if batch is not None:
            # The default: the batch was returned already when the thread failed while it waited for the next one.
            self._assigned.pop(id(batch), None)
        self.cancel_pending()
        self._on_failed(error)
        self._on_thread_ended()

    def _on_thread_ended(self) -> None:
        """Count the end of a thread. After the last one, return all assigned batches as kept.

        Such a batch was taken by a thread that failed between the queue and its work.
        """
        self._running_threads -= 1
        if not self._running_threads:
            for batch in list(self._assigned.values()):
                self._on_batch_done(batch, None)
