"""`subscribe`: the pipeline, in one process or several, until it is asked to stop."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from sensorsync.commands.result import CommandResult
from sensorsync.config import Settings
from sensorsync.config.checks import broker_exposure, database_exposure, idle_mappings
from sensorsync.errors import ExitCode
from sensorsync.mqtt.subscriber.session_registry import only_instance
from sensorsync.runtime.shutdown import SoftStop
from sensorsync.service.health import monitored
from sensorsync.service.live_status import Show, watch
from sensorsync.service.metrics.board import Board
from sensorsync.service.process import PipelineResult, run_process, service_manager_tasks
from sensorsync.service.status_line import StatusLine
from sensorsync.service.supervisor import Supervisor
from sensorsync.service.supervisor.totals import Totals

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
                return _as_result(
                    await run_process(
                        settings, until_idle=until_idle, max_messages=max_messages, show=show, board=board
                    )
                )
            return await _supervise(settings, until_idle, max_messages, show, board)


async def run_supervised(settings: Settings, *, process: int, until_idle: float | None) -> CommandResult:
    """Run one of several processes; its supervisor has checked the settings and holds the instance's lock."""
    return _as_result(await run_process(settings, process=process, supervised=True, until_idle=until_idle))


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
        tickers += service_manager_tasks(
            stop, lambda: totals.status(loop.time()), lambda: supervisor.running == everybody
        )
        try:
            verdict = await supervisor.run(stop)
        finally:
            for ticker in tickers:
                ticker.cancel()
    if verdict.fault:
        return CommandResult("subscribe", {}, verdict.exit_code, verdict.problems)
    more = {"processes": settings.pipeline.processes, "restarts": verdict.restarts}
    ended = PipelineResult(totals.status(loop.time()), stop.reason, loop.time() - began, verdict.problems)
    return _as_result(ended, **more)


def _as_result(ended: PipelineResult, **more: Any) -> CommandResult:
    """Return the command's result for what the pipeline reported, and log it."""
    status = ended.status
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
        "stopped_by": ended.stopped_by,
        "seconds": round(ended.seconds, 3),
        "rate": round(status.overall_rate, 1),
        **more,
    }
    logger.info(
        "stopped (%s): %s stored (%s/s), %s redelivered, %s parked, %s left to the broker",
        ended.stopped_by,
        f"{status.landed:,}",
        f"{status.overall_rate:,.0f}",
        f"{status.duplicates:,}",
        f"{status.parked:,}",
        f"{status.queue_depth:,}",
        extra={"event": "stopped", **data},
    )
    incomplete = status.queue_depth or ended.problems
    return CommandResult("subscribe", data, ExitCode.INCOMPLETE if incomplete else ExitCode.OK, ended.problems)
