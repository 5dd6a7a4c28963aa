"""The `subscribe` command: the pipeline, in one process or several, until it is asked to stop."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from sensorsync.commands.result import CommandResult
from sensorsync.config import Settings
from sensorsync.config.checks import broker_cleartext_credentials, database_cleartext_credentials, unreachable_mappings
from sensorsync.errors import ExitCode
from sensorsync.mqtt.subscriber.session_registry import instance_lock
from sensorsync.runtime.shutdown import GracefulShutdown
from sensorsync.service.health import metrics_endpoint
from sensorsync.service.live_status import ShowLiveStatus, refresh_live_status
from sensorsync.service.metrics.aggregator import MetricsAggregator
from sensorsync.service.process import PipelineResult, run_process, start_systemd_notifier
from sensorsync.service.status_line import StatusLine
from sensorsync.service.supervisor import Supervisor
from sensorsync.service.supervisor.totals import ProcessTotals

logger = logging.getLogger(__name__)


async def run(
    settings: Settings,
    *,
    until_idle: float | None = None,
    max_messages: int | None = None,
    on_update: ShowLiveStatus | None = None,
) -> CommandResult:
    """Store messages until a signal, until none came for `until_idle` seconds, or until `max_messages` are settled.

    With `pipeline.processes` above 1, each process ends by itself when nothing arrived for it. Once all of them
    together have settled `max_messages` they are stopped, which may settle some more. `on_update` is called with a live
    status several times a second.

    Raises BrokerError, DatabaseError, DeadLetterBoxError, AlreadyRunningError. No unsettled message is acknowledged
    then.
    """
    for warning in (*broker_cleartext_credentials(settings), *database_cleartext_credentials(settings)):
        logger.warning("%s", warning, extra={"event": "clear_text"})
    for warning in unreachable_mappings(settings):
        logger.warning("%s", warning, extra={"event": "idle_mapping"})
    with instance_lock(settings):
        async with metrics_endpoint(settings) as aggregator:
            if settings.pipeline.processes == 1:
                return _to_result(
                    await run_process(
                        settings,
                        until_idle=until_idle,
                        max_messages=max_messages,
                        show=on_update,
                        aggregator=aggregator,
                    )
                )
            return await _supervise(settings, until_idle, max_messages, on_update, aggregator)


async def run_supervised(settings: Settings, *, process: int, until_idle: float | None) -> CommandResult:
    """Run one of several processes. Its supervisor has checked the settings and holds the instance's lock."""
    return _to_result(await run_process(settings, process=process, supervised=True, until_idle=until_idle))


async def _supervise(
    settings: Settings,
    until_idle: float | None,
    max_messages: int | None,
    on_update: ShowLiveStatus | None,
    aggregator: MetricsAggregator | None,
) -> CommandResult:
    loop = asyncio.get_running_loop()
    began = loop.time()
    totals = ProcessTotals(began)
    with GracefulShutdown() as stop:
        status = StatusLine(totals, settings, lambda: supervisor.running)
        supervisor = Supervisor(
            settings,
            totals,
            status.on_batch_settled,
            until_idle=until_idle,
            max_messages=max_messages,
            aggregator=aggregator,
        )
        tickers = [loop.create_task(status.report_periodically())]
        if on_update is not None:
            tickers.append(loop.create_task(refresh_live_status(settings, totals, on_update, totals.running_snapshots)))
        processes = settings.pipeline.processes
        tickers += start_systemd_notifier(
            stop, lambda: totals.snapshot(loop.time()), lambda: supervisor.running == processes
        )
        try:
            supervision = await supervisor.run(stop)
        finally:
            for ticker in tickers:
                ticker.cancel()
    if supervision.failed:
        return CommandResult("subscribe", {}, supervision.exit_code, supervision.problems)
    more = {"processes": settings.pipeline.processes, "restarts": supervision.restarts}
    ended = PipelineResult(totals.snapshot(loop.time()), stop.reason, loop.time() - began, supervision.problems)
    return _to_result(ended, **more)


def _to_result(pipeline_result: PipelineResult, **more: Any) -> CommandResult:
    """Return the command's result for that of the pipeline, and log it."""
    status = pipeline_result.snapshot
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
        "stopped_by": pipeline_result.stopped_by,
        "seconds": round(pipeline_result.seconds, 3),
        "rate": round(status.overall_rate, 1),
        **more,
    }
    logger.info(
        "stopped (%s): %s rows stored (%s/s), %s redelivered, %s parked, "
        "%s unacknowledged (the broker delivers them again)",
        pipeline_result.stopped_by,
        f"{status.landed:,}",
        f"{status.overall_rate:,.0f}",
        f"{status.duplicates:,}",
        f"{status.parked:,}",
        f"{status.queue_depth:,}",
        extra={"event": "stopped", **data},
    )
    incomplete = status.queue_depth or pipeline_result.problems
    return CommandResult(
        "subscribe", data, ExitCode.INCOMPLETE if incomplete else ExitCode.OK, pipeline_result.problems
    )
