"""The pipeline from the source through batcher and writers to the acknowledgement, and the order of its shutdown.

The event loop's thread owns the source, the batcher and the counters. The writers' threads belong to the `WriterPool`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from sensorsync.errors import SensorsyncError
from sensorsync.pipeline.batcher import Batch, Batcher
from sensorsync.pipeline.contract import AckToken, Delivery, SinkMisconfigured, Source, WriteReport
from sensorsync.pipeline.counters import PipelineCounters
from sensorsync.pipeline.worker_pool import WriterFactory, WriterPool
from sensorsync.runtime.shutdown import GracefulShutdown

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """The limits for back-pressure, and the conditions under which the pipeline ends. Durations are in seconds, sizes in bytes."""

    queue_limit: int = 10_000
    """Maximum number of deliveries in memory.

    The delivery window should limit QoS 1 before this does. But QoS 0 has no window, and not every broker respects it.
    """
    queue_bytes: int = 64 * 1024 * 1024
    """Maximum size of payloads and topics in memory."""
    stop_timeout: float = 20.0
    until_idle: float | None = None
    """The pipeline ends once no message has arrived for this time and all are settled. None: never."""
    max_messages: int | None = None
    """The pipeline ends once this number of messages is received and settled. None: never."""
    end_sessions: bool = False
    """True when the sessions are drained and ended at the stop."""
    drain_quiet: float = 0.0
    """Time without a message after which the source takes a session for drained. Such a time is not a lack of progress."""


class Ingest:
    """One pipeline, which runs until a stop is requested."""

    def __init__(
        self,
        source: Source,
        batcher: Batcher,
        make_writer: WriterFactory,
        *,
        workers: int,
        counters: PipelineCounters,
        limits: IngestLimits,
        on_settled: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._batcher = batcher
        self._counters = counters
        self._limits = limits
        self._on_settled = on_settled
        self._writer_pool = WriterPool(
            workers, make_writer, on_returned=self._on_batch_returned, on_failed=self._on_writer_failed
        )
        counters.oldest_arrival = self._oldest_arrival
        self._more_expected = False
        self._dispatch_scheduled = False
        self._linger_timer: asyncio.TimerHandle | None = None
        self._stopping = False
        self._error: BaseException | None = None

    async def run(self, stop: GracefulShutdown) -> None:
        """Run until `stop`, then drain and close. Raises the first failure; messages that are unsettled then stay unacknowledged."""
        self._loop = asyncio.get_running_loop()
        self._stop = stop
        self._last_arrival = self._loop.time()
        self._all_settled = asyncio.Event()
        handler = self._loop.get_exception_handler()
        self._loop.set_exception_handler(self._on_callback_exception)
        self._writer_pool.start()
        try:
            if await self._run_unless_stopped(self._source.start(self)):
                self._last_arrival = self._loop.time()
                if self._limits.until_idle is not None:
                    self._check_idle(self._limits.until_idle)
                await stop.wait()
        except Exception as error:  # noqa: BLE001 - reported after the orderly end
            self.fail(error)
        finally:
            await self._shut_down()
            self._loop.set_exception_handler(handler)
        if self._error is not None:
            raise self._error

    # -- DeliveryHandler: the methods that the source calls ---------------------------------------------------------------

    def holds(self, token: AckToken) -> bool:
        """Return True when the batcher or a writer has this delivery.

        It searches all deliveries, so call it from a watchdog, not for every message.
        """
        return any(delivery.token == token for delivery in chain(self._batcher, self._writer_pool.deliveries()))

    def receive(self, deliveries: Sequence[Delivery], *, more: bool) -> None:
        """Take over the deliveries of one read of one socket."""
        if self._stopping:
            return  # not taken over, so not acknowledged: the broker keeps them
        room = self._limits.max_messages
        if room is not None:
            deliveries = deliveries[: max(0, room - self._counters.received)]
        now = self._last_arrival = self._loop.time()
        if self._counters.first_arrival is None and deliveries:
            self._counters.first_arrival = now
        self._counters.received += len(deliveries)
        self._counters.queue_bytes += sum(len(d.payload) + len(d.topic) for d in deliveries)
        self._batcher.add(deliveries, now)
        self._more_expected |= more
        self._schedule_dispatch()
        self._apply_backpressure()

    def fail(self, error: BaseException) -> None:
        """Stop the pipeline after a failure. `run` raises the first error that was reported."""
        self._error = self._error or error
        self._stop.request("failure")

    def _on_callback_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Stop the pipeline after an uncaught exception in a callback of the loop.

        The callback may have stopped half-way through sending a PUBACK, so the pipeline does not continue.
        """
        loop.default_exception_handler(context)
        if "handle" in context or "protocol" in context:
            self.fail(context.get("exception") or RuntimeError(context["message"]))

    async def _run_unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Await `work`, but cancel it when a stop of the pipeline is requested. Return True when it was finished."""
        task = self._loop.create_task(work)
        stopped = self._loop.create_task(self._stop.wait())
        try:
            await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
            return task.done()
        finally:
            for one in (task, stopped):
                one.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    # -- one iteration of the event loop ----------------------------------------------------------------------------------

    def _schedule_dispatch(self) -> None:
        """Schedule a dispatch after this iteration of the loop. By then every socket that had data has been read."""
        if not self._dispatch_scheduled:
            self._dispatch_scheduled = True
            self._loop.call_soon(self._run_scheduled_dispatch)

    def _run_scheduled_dispatch(self) -> None:
        drained, self._dispatch_scheduled, self._more_expected = not self._more_expected, False, False
        self._dispatch_batches(input_drained=drained)

    def _dispatch_batches(self, *, input_drained: bool) -> None:
        """Submit the batches that are due: any batch to a free writer, and one full batch ahead for each busy writer."""
        while self._error is None and self._writer_pool.has_room:
            batch = self._batcher.take(
                self._loop.time(),
                writer_free=self._writer_pool.has_free_writer,
                input_drained=input_drained,
                stopping=self._stopping,
            )
            if batch is None:
                break
            self._counters.flushes[batch.reason] += 1
            self._writer_pool.submit(batch)
        self._arm_linger()

    def _arm_linger(self) -> None:
        """Set the timer for the batch time-out.

        The input of a steady stream may never be drained. Then a batch is due when its oldest delivery has waited for the time-out.
        """
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None
        due = self._batcher.due_in(self._loop.time())
        if due is not None and self._writer_pool.has_free_writer:
            self._linger_timer = self._loop.call_later(due, partial(self._dispatch_batches, input_drained=False))

    def _on_batch_returned(self, batch: Batch, report: WriteReport | None) -> None:
        """Settle a batch that its writer returned. `report` is None when the batch was kept and stays unacknowledged."""
        try:
            if report is not None:
                self._settle(batch, report)
            self._dispatch_batches(input_drained=self._stopping)
            if not self._stopping:
                # A writer is free. Let the loop read the sockets once more before the writer gets a small batch.
                self._loop.call_soon(self._schedule_dispatch)
        finally:
            if (
                self._stopping and self._writer_pool.idle
            ):  # also after an exception, because the shutdown waits for this
                self._all_settled.set()

    def _settle(self, batch: Batch, report: WriteReport) -> None:
        """Acknowledge and count a batch whose messages are all stored or parked."""
        self._source.settle([d.token for d in batch.deliveries if d.token is not None])
        self._counters.count_batch(
            messages_stored=report.messages_stored,
            rows_stored=report.rows_stored,
            redelivered_rows=report.redelivered_rows,
            parked=Counter(letter.reason for letter in report.rejected.values()),
            transactions=report.transactions,
            arrivals=batch.arrivals,
            now=self._loop.time(),
        )
        self._counters.queue_bytes -= sum(len(d.payload) + len(d.topic) for d in batch.deliveries)
        self._apply_backpressure()
        self._on_settled()
        if self._limits.max_messages is not None and self._counters.settled >= self._limits.max_messages:
            self._stop.request("max-messages")

    def _apply_backpressure(self) -> None:
        """Pause reading while too much is in memory, and resume once it is at most half of the limit."""
        most, most_bytes = self._limits.queue_limit, self._limits.queue_bytes
        counters = self._counters
        held, held_bytes = counters.queue_depth, counters.queue_bytes
        if not counters.reading_paused and (held > most or held_bytes > most_bytes):
            counters.reading_paused = True
            counters.reading_pauses += 1
            self._source.pause()
        elif counters.reading_paused and held <= most // 2 and held_bytes <= most_bytes // 2:
            counters.reading_paused = False
            self._source.resume()

    def _oldest_arrival(self) -> float | None:
        """Return the time of arrival of the oldest unsettled delivery; None when there is none."""
        return min(
            (when for when in (self._batcher.oldest_arrival, self._writer_pool.oldest_arrival) if when is not None),
            default=None,
        )

    def _check_idle(self, idle_timeout: float) -> None:
        left = self._last_arrival + idle_timeout - self._loop.time()
        if left <= 0 and self._counters.queue_depth == 0 and self._source.connected:
            self._stop.request("idle")
        else:
            self._loop.call_later(max(left, idle_timeout / 10), self._check_idle, idle_timeout)

    def _on_writer_failed(self, error: BaseException) -> None:
        """Stop the pipeline after a writer's thread failed.

        An unexpected exception is wrapped and not raised here as it is: a SystemExit would end the process with its own code.
        """
        if not isinstance(error, SinkMisconfigured | SensorsyncError):
            logger.critical(
                "[BUG] a writer failed with an unexpected error; please report this",
                exc_info=error,
                extra={"event": "writer_died"},
            )
            bug = SensorsyncError(
                f"A writer died of something that sensorsync did not foresee ({type(error).__name__})",
                hint="What was not acknowledged, the broker sends again. Report it with the traceback after [BUG] in the log.",
            )
            bug.__cause__ = error
            error = bug
        self.fail(error)
        if self._writer_pool.idle:
            self._all_settled.set()

    # -- the end -------------------------------------------------------------------------------------------------------------

    async def _shut_down(self) -> None:
        """Stop the parts in order. A step may only rely on the parts that are stopped in later steps."""
        # 0. When the sessions are to end, their messages are received first, because no process will receive them later.
        if self._limits.end_sessions and self._error is None:
            await self._drain_and_end_sessions()
        # 1. No more deliveries are taken over. There is no UNSUBSCRIBE: the session continues to queue messages for the next start.
        self._stopping = True
        self._source.stop_receiving()
        # 2. The writers finish the deliveries in memory until a deadline.
        # 3. With each finished batch the ledgers release its acknowledgements.
        deadline = self._loop.time() + self._limits.stop_timeout
        self._all_settled.clear()
        if self._error is None:
            self._dispatch_batches(input_drained=True)
        else:
            self._writer_pool.abort_retries()
            self._writer_pool.cancel_pending()
        if not self._writer_pool.idle:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._all_settled.wait()
            except TimeoutError:
                logger.warning(
                    "stop deadline reached: %d messages stay unacknowledged, the broker will send them again",
                    self._counters.queue_depth,
                    extra={"event": "stop_deadline", "unsettled": self._counters.queue_depth},
                )
        if held := self._writer_pool.set_aside_count:
            logger.warning(
                "%d messages that were set aside stay unacknowledged, the broker will send them again",
                held,
                extra={"event": "set_aside", "messages": held},
            )
        # 4. The source sends DISCONNECT. Sessions are kept, except those that were drained in step 0.
        await self._source.close()
        # 5. The writers return their database connections.
        await self._writer_pool.shutdown(1.0)
        # 6. The caller reports the result.

    async def _drain_and_end_sessions(self) -> None:
        """Drain the sessions until they are empty. They are kept after a failure, or without progress for the stop time-out."""
        draining = self._loop.create_task(self._source.drain_and_end_sessions())
        settled = -1
        while not draining.done() and self._error is None and self._counters.settled != settled:
            settled = self._counters.settled
            deadline = self._loop.time() + self._limits.stop_timeout + self._limits.drain_quiet
            while not draining.done() and self._error is None and self._loop.time() < deadline:
                await asyncio.wait([draining], timeout=0.1)
        if not draining.done():
            draining.cancel()
            logger.warning("the sessions could not be drained and were not ended", extra={"event": "leave_failed"})
        await asyncio.gather(draining, return_exceptions=True)
