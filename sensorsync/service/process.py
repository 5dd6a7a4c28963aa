"""One process of the pipeline: builds its parts from the settings, runs them, and closes them in order."""

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
from sensorsync.pipeline.counters import Meter, Status
from sensorsync.pipeline.ingest import Ingest, Limits
from sensorsync.pipeline.writer import BatchWriter, Refusals
from sensorsync.runtime.backoff import Backoff
from sensorsync.runtime.process import quieten_collector
from sensorsync.runtime.shutdown import SoftStop
from sensorsync.service.health import reporter, reporting
from sensorsync.service.live_status import Show, watch
from sensorsync.service.metrics.board import Board
from sensorsync.service.metrics.picture import picture_of
from sensorsync.service.status_line import StatusLine
from sensorsync.service.systemd import ServiceManager, keep_told
from sensorsync.storage.open import open_store
from sensorsync.storage.store import Store
from sensorsync.wiring import message_decoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """How a run of the pipeline ended."""

    status: Status
    stopped_by: str | None
    """The reason of the stop: a signal's name, `idle`, `max-messages`."""
    seconds: float
    problems: tuple[Problem, ...] = ()


async def run_process(
    settings: Settings,
    *,
    process: int = 0,
    supervised: bool = False,
    until_idle: float | None = None,
    max_messages: int | None = None,
    show: Show | None = None,
    board: Board | None = None,
) -> PipelineResult:
    """Run process number `process` of the instance; a supervisor, if there is one, holds the instance's lock.

    Raises BrokerError, DatabaseError, DeadLetterBoxError; nothing unsettled is acknowledged then.
    """
    loop = asyncio.get_running_loop()
    pipeline = settings.pipeline
    decode = message_decoder(settings)
    meter = Meter(loop.time())
    began = loop.time()
    source: MqttSource | None = None
    box = DeadLetters.of(settings)
    box.open()
    for warning in box.warnings():
        logger.warning("%s", warning, extra={"event": "dead_letter_box"})
    with SoftStop() as stop, closing(box):
        store = open_store(settings.database, settings.own_tables)
        try:
            await _database_ready(store, settings, stop)
            refusals = Refusals()
            status = StatusLine(meter, settings)

            stall_after = settings.metrics.stall_after
            report = reporter(
                board, process, stop, lambda: picture_of(meter, store.pool, loop.time(), stall_after=stall_after)
            )

            def make_writer(number: int, pause: Callable[[float], bool]) -> BatchWriter:
                return BatchWriter(
                    number,
                    store.sink(number),
                    box,
                    decode,
                    backoff=Backoff(pipeline.backoff_min, pipeline.backoff_max),
                    pause=pause,
                    refusals=refusals,
                    wait_for_database=settings.database.wait_for_database,
                    meter=meter.writer(),
                )

            source = MqttSource(settings, meter, process=process)
            ingest = Ingest(
                source,
                Batcher(pipeline.batch_size, pipeline.batch_timeout),
                make_writer,
                workers=pipeline.workers,
                meter=meter,
                limits=Limits(
                    queue_limit=pipeline.queue_limit,
                    queue_bytes=pipeline.queue_bytes,
                    stop_timeout=pipeline.stop_timeout,
                    until_idle=until_idle,
                    max_messages=max_messages,
                    leave=settings.mqtt.on_stop == "leave",
                ),
                on_settled=status.landed,
            )
            tickers = [loop.create_task(status.tick())]
            if show is not None:
                tickers.append(loop.create_task(watch(settings, meter, show)))
            if settings.metrics.listen is not None:
                tickers.append(loop.create_task(reporting(report)))
            if not supervised:
                tickers += service_manager_tasks(
                    stop, lambda: meter.status(loop.time()), lambda: meter.status(loop.time()).links > 0
                )
            try:
                if not stop.asked:
                    quieten_collector()
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
    kept = None if source is None else source.sessions_kept
    return PipelineResult(meter.status(loop.time()), stop.reason, loop.time() - began, _sessions_left(settings, kept))


def service_manager_tasks(
    stop: SoftStop, status: Callable[[], Status], ready: Callable[[], bool]
) -> list[asyncio.Task[Never]]:
    """Start what notifies the service manager, if there is one."""

    def line() -> str:
        now = status()
        return (
            f"{now.landed:,} stored, {now.parked:,} parked, {now.queue_depth:,} on their way, {now.links} connection(s)"
        )

    manager = ServiceManager.of(os.environ)
    if manager is None:
        return []
    return [asyncio.get_running_loop().create_task(keep_told(manager, stop, ready, line))]


async def _database_ready(store: Store, settings: Settings, stop: SoftStop) -> None:
    """Return once rows can be written. Raises DatabaseError, unless the settings say to wait for the database."""
    backoff = Backoff(settings.pipeline.backoff_min, settings.pipeline.backoff_max)
    while not stop.asked:
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
            delay = backoff.next()
            logger.warning(
                "waiting for the database: %s; next try in %.1fs", error, delay, extra={"event": "database_awaited"}
            )
            try:
                async with asyncio.timeout(delay):
                    await stop.wait()
            except TimeoutError:
                continue
        else:
            logger.info("storing into %s", store.label, extra={"event": "database_ready"})
            return


def _sessions_left(settings: Settings, kept: int | None) -> tuple[Problem, ...]:
    """What went wrong with leaving for good; `kept` is None when it did not come to that."""
    if settings.mqtt.on_stop != "leave" or settings.mqtt.ephemeral or kept == 0:
        return ()
    which = "The sessions" if kept is None else f"{kept} session(s)"
    message = f"{which} of {settings.mqtt.instance} could not be ended: the broker goes on collecting for them"
    return (Problem(IncompleteError.code, message, "Run `sensorsync subscribe --leave --until-idle 5s` again."),)
