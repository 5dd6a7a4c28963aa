"""The commands `stress-publish` and `audit` on the command line."""
# ruff: noqa: PLC0415 - imports are inside the functions for speed

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorsync.cli.wiring import Client, Json, Plain, app, run

if TYPE_CHECKING:
    from sensorsync.commands.result import CommandResult
    from sensorsync.config import LoadedSettings


@app.command("stress-publish")
def stress_publish(
    context: typer.Context,
    messages: Annotated[int | None, typer.Option("--messages", help="Messages in all.", metavar="N")] = None,
    processes: Annotated[int | None, typer.Option("--processes", help="Processes that publish.", metavar="N")] = None,
    clients: Annotated[int | None, typer.Option("--clients", help="Connections of each process.", metavar="N")] = None,
    topic: Annotated[str | None, typer.Option("--topic", help="Topic to publish to.", metavar="TOPIC")] = None,
    topics: Annotated[
        int | None, typer.Option("--topics", help="Topics below it (/0, /1, ...) to publish to in turn.", metavar="N")
    ] = None,
    devices: Annotated[
        int | None, typer.Option("--devices", help="Devices that all clients play together.", metavar="N")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", help="Messages per second in all, whatever the broker does (open loop).", metavar="N"),
    ] = None,
    ramp: Annotated[
        str | None,
        typer.Option(
            "--ramp", help="Grow to --rate in this time; without it, begin client by client.", metavar="DURATION"
        ),
    ] = None,
    payload_size: Annotated[
        str | None, typer.Option("--payload-size", help="Pad readings to so many bytes at least.", metavar="SIZE")
    ] = None,
    window: Annotated[
        int | None, typer.Option("--window", help="Unacknowledged messages on one connection.", metavar="N")
    ] = None,
    client: Client = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Wait for a subscriber, then for the rows, and audit them.")
    ] = False,
    file: Annotated[
        Path | None, typer.Option("--file", help="Publish this recording (JSON lines) instead.", metavar="FILE")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option("--speed", help="Factor to the recording's own pace; else as fast as it goes.", min=1e-6),
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run", help="Name of the run; by default made up.", metavar="RUN")
    ] = None,
    plain: Plain = False,
    json: Json = False,
) -> None:
    """Publish a load, and count what becomes of every message. It is signed when a key is configured."""
    from sensorsync.commands import stress_publish as command
    from sensorsync.console.stress_publish import StressPublishView

    async def work(loaded: LoadedSettings) -> CommandResult:
        options = command.StressPublishOptions(verify=verify, file=file, speed=speed, run=run_id)
        with StressPublishView(plain=plain) as view:
            return await command.run(loaded.settings, options, view.show)

    run(
        context,
        command.COMMAND,
        work,
        as_json=json,
        settings={
            "publish.messages": messages,
            "publish.processes": processes,
            "publish.clients": clients,
            "publish.topic": topic,
            "publish.topics": topics,
            "publish.devices": devices,
            "publish.rate": rate,
            "publish.ramp": ramp,
            "publish.payload_size": payload_size,
            "publish.window": window,
            "mqtt.client": client,
        },
    )


@app.command("audit")
def audit(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as stress-publish printed it.")],
    clean: Annotated[bool, typer.Option("--clean", help="Delete the run's rows afterwards.")] = False,
    json: Json = False,
) -> None:
    """Find out which messages of a run are stored or missing."""
    from sensorsync.commands import audit as command

    run(context, command.COMMAND, lambda loaded: command.run(loaded.settings, run_id, clean=clean), as_json=json)
