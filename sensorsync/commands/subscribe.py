"""`subscribe`: the pipeline, in one process or several, until it is asked to stop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import closing
from typing import Any, Never

from sensorsync.config import Settings
from sensorsync.config.exposure import broker_exposure, database_exposure
from sensorsync.config.idle import idle_mappings
from sensorsync.deadletters import DeadLetters
from sensorsync.decoding import message_decoder
from sensorsync.drivers import open_store
from sensorsync.errors import DatabaseError, ExitCode, IncompleteError
from sensorsync.lifecycle import Backoff, SoftStop, quieten_collector
from sensorsync.meter import Meter, Status
from sensorsync.metrics.board import Board
from sensorsync.metrics.picture import picture_of
from sensorsync.monitoring import monitored, reporter, reporting
from sensorsync.mqtt.sessions import only_instance
from sensorsync.mqtt.source import MqttSource
from sensorsync.pipeline.batcher import Batcher
from sensorsync.pipeline.contract import SinkMisconfigured, SinkUnavailable
from sensorsync.pipeline.ingest import Ingest, Limits
from sensorsync.pipeline.writer import BatchWriter, Refusals
from sensorsync.result import CommandResult, Problem
from sensorsync.service_manager import ServiceManager, keep_told
from sensorsync.status_line import StatusLine
from sensorsync.store import Store
from sensorsync.supervisor import Supervisor
from sensorsync.supervisor.totals import Totals
from sensorsync.watching import Show, watch

logger = logging.getLogger(__name__)


async def run(
    settings: Settings, *, until_idle: float | None = None, max_messages: int | None = None, show: Show | None = None
) -> CommandResult:
    """Store what arrives until a signal, or for `until_idle` seconds nothing arrived, or `max_messages` are settled.

    With `pipeline.processes` above 1, in so many processes: each ends by itself when nothing arrived for it; and once all of them have
    settled `max_messages` they are stopped, which may settle some more. `show` gets a picture several times a second.

    Raises BrokerError, DatabaseError, DeadLetterBoxError, AlreadyRunningError; nothing unsettled is acknowledged then.
    """
    for warning in (*broker_exposure(settings), *database_exposure(settings)):
        logger.warning("%s", warning, extra={"event": "clear_text"})
    for warning in idle_mappings(settings):
        logger.warning("%s", warning, extra={"event": "idle_mapping"})
    with only_instance(settings):
        async with monitored(settings) as board:
            if settings.pipeline.processes == 1:
                return await run_process(
                    settings, until_idle=until_idle, max_messages=max_messages, show=show, board=board
                )
            return await _supervise(settings, until_idle, max_messages, show, board)


async def run_process(
    settings: Settings,
    *,
    process: int = 0,
    supervised: bool = False,
    until_idle: float | None = None,
    max_messages: int | None = None,
    show: Show | None = None,
    board: Board | None = None,
) -> CommandResult:
    """Be process number `process` of the instance; a supervisor, if there is one, holds the instance's lock."""
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
                tickers += _told(stop, lambda: meter.status(loop.time()), lambda: meter.status(loop.time()).links > 0)
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
    return _result(meter.status(loop.time()), stop.reason, loop.time() - began, _sessions_left(settings, kept))


async def _supervise(
    settings: Settings,
    until_idle: float | None,
    max_messages: int | None,
    show: Show | None,
    board: Board | None,
) -> CommandResult:
    loop = asyncio.get_running_loop()
    began = loop.time()
    totals = Totals(began)
    with SoftStop() as stop:
        status = StatusLine(totals, settings, lambda: supervisor.running)
        supervisor = Supervisor(
            settings, totals, status.landed, until_idle=until_idle, max_messages=max_messages, board=board
        )
        tickers = [loop.create_task(status.tick())]
        if show is not None:
            tickers.append(loop.create_task(watch(settings, totals, show, totals.present)))
        everybody = settings.pipeline.processes
        tickers += _told(stop, lambda: totals.status(loop.time()), lambda: supervisor.running == everybody)
        try:
            verdict = await supervisor.run(stop)
        finally:
            for ticker in tickers:
                ticker.cancel()
    if verdict.fault:
        return CommandResult("subscribe", {}, verdict.exit_code, verdict.problems)
    more = {"processes": settings.pipeline.processes, "restarts": verdict.restarts}
    return _result(totals.status(loop.time()), stop.reason, loop.time() - began, verdict.problems, **more)


def _told(stop: SoftStop, status: Callable[[], Status], ready: Callable[[], bool]) -> list[asyncio.Task[Never]]:
    """What keeps the service manager told, if there is one."""

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


def _result(
    status: Status, reason: str | None, seconds: float, problems: tuple[Problem, ...] = (), **more: Any
) -> CommandResult:
    data = {
        "received": status.received,
        "stored": status.landed,
        "redelivered": status.duplicates,
        "parked": status.parked,
        "parked_by_reason": dict(status.parked_by_reason),
        "unacknowledged": status.queue_depth,
        "batches": status.batches,
        "flushes": {str(name): count for name, count in status.flushes.items()},
        "retries": status.retries,
        "reconnects": status.reconnects,
        "sessions_lost": status.sessions_lost,
        "stopped_by": reason,
        "seconds": round(seconds, 3),
        "rate": round(status.overall_rate, 1),
        **more,
    }
    logger.info(
        "stopped (%s): %s stored (%s/s), %s redelivered, %s parked, %s left to the broker",
        reason,
        f"{status.landed:,}",
        f"{status.overall_rate:,.0f}",
        f"{status.duplicates:,}",
        f"{status.parked:,}",
        f"{status.queue_depth:,}",
        extra={"event": "stopped", **data},
    )
    incomplete = status.queue_depth or problems
    return CommandResult("subscribe", data, ExitCode.INCOMPLETE if incomplete else ExitCode.OK, problems)
