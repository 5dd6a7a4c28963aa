"""One process of the pipeline. It builds the parts from the settings, runs them, and closes them in order."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Never

from sensorsync.config import Settings
from sensorsync.deadletters import DeadLetters
from sensorsync.errors import DatabaseError, IncompleteError, Problem
from sensorsync.mqtt.subscriber.source import MqttSource
from sensorsync.pipeline.batcher import Batcher
from sensorsync.pipeline.contract import SinkMisconfigured, SinkUnavailable
from sensorsync.pipeline.counters import PipelineCounters, Snapshot
from sensorsync.pipeline.ingest import Ingest, IngestLimits
from sensorsync.pipeline.suspects import RowFaultNumbers
from sensorsync.pipeline.writer import BatchWriter, RejectionBreaker
from sensorsync.runtime.backoff import Backoff
from sensorsync.runtime.process import tune_gc
from sensorsync.runtime.shutdown import GracefulShutdown
from sensorsync.service.health import make_reporter, report_periodically
from sensorsync.service.live_status import ShowLiveStatus, refresh_live_status
from sensorsync.service.metrics.aggregator import MetricsAggregator
from sensorsync.service.metrics.process_report import process_report
from sensorsync.service.status_line import StatusLine
from sensorsync.service.systemd import SystemdNotifier, notify_loop
from sensorsync.storage.open import open_store
from sensorsync.storage.store import Store
from sensorsync.wiring import message_decoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """The result of a run of the pipeline."""

    snapshot: Snapshot
    stopped_by: str | None
    """The reason for the stop: the name of a signal, `idle` or `max-messages`."""
    seconds: float
    problems: tuple[Problem, ...] = ()


async def run_process(
    settings: Settings,
    *,
    process: int = 0,
    supervised: bool = False,
    until_idle: float | None = None,
    max_messages: int | None = None,
    show: ShowLiveStatus | None = None,
    aggregator: MetricsAggregator | None = None,
) -> PipelineResult:
    """Run process number `process` of the instance. With `supervised`, the supervisor holds the lock of the instance.

    Raises BrokerError, DatabaseError or DeadLetterBoxError. Unsettled messages are not acknowledged then.
    """
    loop = asyncio.get_running_loop()
    pipeline = settings.pipeline
    decode = message_decoder(settings)
    counters = PipelineCounters(loop.time())
    began = loop.time()
    source: MqttSource | None = None
    box = DeadLetters.from_settings(settings)
    box.open()
    for warning in box.warnings():
        logger.warning("%s", warning, extra={"event": "dead_letter_box"})
    with GracefulShutdown() as stop, closing(box):
        store = open_store(settings.database, settings.target_tables)
        try:
            await _wait_for_database(store, settings, stop)
            breaker, row_fault_numbers = RejectionBreaker(), RowFaultNumbers()
            status = StatusLine(counters, settings)

            stall_after = settings.metrics.stall_after
            report = make_reporter(
                aggregator,
                process,
                stop,
                lambda: process_report(counters, store.pool_counters, loop.time(), stall_after=stall_after),
            )

            def make_writer(number: int, pause: Callable[[float], bool]) -> BatchWriter:
                return BatchWriter(
                    number,
                    store.create_sink(number),
                    box,
                    decode,
                    backoff=Backoff(pipeline.backoff_min, pipeline.backoff_max),
                    pause=pause,
                    breaker=breaker,
                    wait_for_database=settings.database.wait_for_database,
                    counters=counters.add_writer(),
                    row_fault_numbers=row_fault_numbers,
                )

            source = MqttSource(settings, counters, process_number=process)
            ingest = Ingest(
                source,
                Batcher(pipeline.batch_size, pipeline.batch_timeout),
                make_writer,
                workers=pipeline.workers,
                counters=counters,
                limits=IngestLimits(
                    queue_limit=pipeline.queue_limit,
                    queue_bytes=pipeline.queue_bytes,
                    stop_timeout=pipeline.stop_timeout,
                    until_idle=until_idle,
                    max_messages=max_messages,
                    end_sessions=settings.mqtt.on_stop == "leave",
                    drain_quiet=settings.mqtt.drain_quiet,
                ),
                on_settled=status.on_batch_settled,
            )
            tickers = [loop.create_task(status.report_periodically())]
            if show is not None:
                tickers.append(loop.create_task(refresh_live_status(settings, counters, show)))
            if settings.metrics.listen is not None:
                tickers.append(loop.create_task(report_periodically(report)))
            if not supervised:
                tickers += start_systemd_notifier(
                    stop, lambda: counters.snapshot(loop.time()), lambda: counters.snapshot(loop.time()).links > 0
                )
            try:
                if not stop.requested:
                    tune_gc()
                    await ingest.run(stop)
            except SinkMisconfigured as error:
                raise DatabaseError(str(error), hint=error.hint) from error
            finally:
                for ticker in tickers:
                    ticker.cancel()
                if supervised:
                    status.report()
                if settings.metrics.listen is not None:
                    report()
        finally:
            await asyncio.to_thread(store.close)
    remaining = None if source is None else source.sessions_not_ended
    return PipelineResult(
        counters.snapshot(loop.time()), stop.reason, loop.time() - began, _session_problems(settings, remaining)
    )


def start_systemd_notifier(
    stop: GracefulShutdown, snapshot: Callable[[], Snapshot], ready: Callable[[], bool]
) -> list[asyncio.Task[Never]]:
    """Start the task that notifies systemd. Return no task when systemd did not start this service with a socket."""

    def line() -> str:
        now = snapshot()
        return (
            f"{now.landed:,} stored, {now.parked:,} parked, {now.queue_depth:,} on their way, {now.links} connection(s)"
        )

    notifier = SystemdNotifier.from_environment(os.environ)
    if notifier is None:
        return []
    return [asyncio.get_running_loop().create_task(notify_loop(notifier, stop, ready, line))]


async def _wait_for_database(store: Store, settings: Settings, stop: GracefulShutdown) -> None:
    """Return once rows can be written. Raises DatabaseError, unless `database.wait_for_database` is set."""
    backoff = Backoff(settings.pipeline.backoff_min, settings.pipeline.backoff_max)
    while not stop.requested:
        try:
            await asyncio.to_thread(store.check_schema)
            for warning in await asyncio.to_thread(store.durability_warnings):
                logger.warning("%s", warning, extra={"event": "durability"})
        except (SinkUnavailable, SinkMisconfigured) as error:
            hint = (
                error.hint
                if isinstance(error, SinkMisconfigured)
                else "check the database.* settings (DB_HOST, DB_PORT)"
            )
            if not settings.database.wait_for_database:
                raise DatabaseError(str(error), hint=hint) from error
            delay = backoff.next_delay()
            logger.warning(
                "waiting for the database: %s; next retry in %.1fs", error, delay, extra={"event": "database_awaited"}
            )
            try:
                async with asyncio.timeout(delay):
                    await stop.wait()
            except TimeoutError:
                continue
        else:
            logger.info("storing into %s", store.label, extra={"event": "database_ready"})
            return


def _session_problems(settings: Settings, remaining_sessions: int | None) -> tuple[Problem, ...]:
    """Return the problems with ending the sessions (`mqtt.on_stop: leave`).

    `remaining_sessions` is the number of sessions that were not ended, None when ending them was not attempted.
    """
    if settings.mqtt.on_stop != "leave" or settings.mqtt.ephemeral or remaining_sessions == 0:
        return ()
    which = "The sessions" if remaining_sessions is None else f"{remaining_sessions} session(s)"
    message = f"{which} of {settings.mqtt.instance} could not be ended: the broker goes on collecting for them"
    return (Problem(IncompleteError.code, message, "Run `sensorsync subscribe --leave --until-idle 5s` again."),)
