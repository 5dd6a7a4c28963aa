"""The commands: one short function each.

A command maps its flags to settings, hands the loaded settings to its function in `sensorsync/commands/`, and `console.execution`
shows what comes back. Heavy imports are inside the functions, so that `--help` is quick.
"""
# ruff: noqa: PLC0415 - imports are inside the functions for speed

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorsync.cli.wiring import Json, app, config_app, configure_first_logs, duration, run, run_process

if TYPE_CHECKING:
    from sensorsync.config import Loaded
    from sensorsync.result import CommandResult


@app.command("subscribe")
def subscribe(
    context: typer.Context,
    topic: Annotated[
        list[str] | None, typer.Option("--topic", help="Topic filter; may be given several times.", metavar="FILTER")
    ] = None,
    processes: Annotated[int | None, typer.Option("--processes", help="Processes, supervised.", metavar="N")] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Writer threads (of each process).")] = None,
    connections: Annotated[
        str | None,
        typer.Option("--connections", help="Connections to the broker (of each process), or auto.", metavar="N|auto"),
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Messages in one transaction at most.")] = None,
    batch_timeout: Annotated[
        str | None, typer.Option("--batch-timeout", help="Longest wait for a batch to fill.", metavar="DURATION")
    ] = None,
    until_idle: Annotated[
        str | None,
        typer.Option(
            "--until-idle", help="End (each process for itself) when nothing came for so long.", metavar="DURATION"
        ),
    ] = None,
    max_messages: Annotated[
        int | None,
        typer.Option(
            "--max-messages",
            help="End after so many messages; several processes: after so many at least.",
            min=1,
            metavar="N",
        ),
    ] = None,
    ephemeral: Annotated[
        bool | None, typer.Option("--ephemeral", help="Leave no session in the broker (for CI).")
    ] = None,
    leave: Annotated[
        bool, typer.Option("--leave", help="At the end, drain the sessions and end them for good.")
    ] = False,
    process: Annotated[int | None, typer.Option("--process", hidden=True)] = None,
) -> None:
    """Store what arrives: the pipeline, until Ctrl-C or SIGTERM."""
    from sensorsync.commands import subscribe as command

    if process is not None:
        run_process(context, process)
    run(
        context,
        "subscribe",
        lambda loaded: command.run(
            loaded.settings, until_idle=duration("--until-idle", until_idle), max_messages=max_messages
        ),
        settings={
            "mqtt.topics": topic or None,
            "mqtt.connections": connections,
            "mqtt.ephemeral": ephemeral,
            "mqtt.on_stop": "leave" if leave else None,
            "pipeline.processes": processes,
            "pipeline.workers": workers,
            "pipeline.batch_size": batch_size,
            "pipeline.batch_timeout": batch_timeout,
        },
        flags={"mqtt.topics": "--topic", "mqtt.on_stop": "--leave"},
    )


@app.command("stress-publish")
def stress_publish(
    context: typer.Context,
    messages: Annotated[int | None, typer.Option("--messages", help="Messages in all.", metavar="N")] = None,
    processes: Annotated[int | None, typer.Option("--processes", help="Processes that publish.", metavar="N")] = None,
    clients: Annotated[int | None, typer.Option("--clients", help="Connections of each process.", metavar="N")] = None,
    topic: Annotated[str | None, typer.Option("--topic", help="Topic to publish to.", metavar="TOPIC")] = None,
    window: Annotated[
        int | None, typer.Option("--window", help="Unacknowledged messages on one connection.", metavar="N")
    ] = None,
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
    json: Json = False,
) -> None:
    """Publish a load, signed when a key is configured, and count what becomes of every message."""
    from sensorsync.commands import stress_publish as command
    from sensorsync.console.stress_publish import View

    async def work(loaded: Loaded) -> CommandResult:
        options = command.Options(verify=verify, file=file, speed=speed, run=run_id)
        with View() as view:
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
            "publish.window": window,
        },
    )


@app.command("check-cloud")
def check_cloud(
    context: typer.Context,
    topic: Annotated[
        str,
        typer.Option("--topic", help="Topic of the probes; nobody else should be subscribed to it.", metavar="TOPIC"),
    ] = "sensors/test/connectivity",
    probes: Annotated[int, typer.Option("--probes", help="Round trips to time.", min=1, max=10_000, metavar="N")] = 20,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out session persistence and the delivery window (for CI).")
    ] = False,
    json: Json = False,
) -> None:
    """Check the connection to the broker step by step; the first step that fails names the cause and the fix."""
    from sensorsync.commands import check_cloud as command
    from sensorsync.console.check_cloud import View

    async def work(loaded: Loaded) -> CommandResult:
        with View() as view:
            return await command.run(loaded.settings, command.Options(topic, probes, quick), view.show)

    run(context, command.COMMAND, work, as_json=json)


@app.command("audit")
def audit(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as stress-publish printed it.")],
    clean: Annotated[bool, typer.Option("--clean", help="Delete the run's rows afterwards.")] = False,
    json: Json = False,
) -> None:
    """Find out which messages of a run are stored, and which are missing."""
    from sensorsync.commands import audit as command

    run(context, command.COMMAND, lambda loaded: command.run(loaded.settings, run_id, clean=clean), as_json=json)


@app.command("demo")
def demo(
    context: typer.Context,
    messages: Annotated[
        int, typer.Option("--messages", help="How many messages to publish.", min=1, metavar="N")
    ] = 50_000,
    file: Annotated[
        Path | None, typer.Option("--file", help="Publish this recording (JSON lines) instead.", metavar="FILE")
    ] = None,
    broker: Annotated[
        str, typer.Option("--broker", help="embedded, or mosquitto from the PATH.", metavar="BROKER")
    ] = "embedded",
    mysql: Annotated[
        bool, typer.Option("--mysql", help="Store in a private MariaDB or MySQL from the PATH, not in SQLite.")
    ] = False,
    drill: Annotated[
        bool, typer.Option("--drill", help="Kill and restart things under load, and still lose nothing.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary folder, and say where it is.")] = False,
    json: Json = False,
) -> None:
    """Everything on this machine: a private broker and database, a signed load, an audit. Your settings play no part in it."""
    from sensorsync.commands import demo as command
    from sensorsync.console.demo import View
    from sensorsync.console.execution import execute

    async def work() -> CommandResult:
        options = command.Options(messages, command.broker_named(broker), mysql, file, keep, drill)
        with View() as view:
            return await command.run(options, view.show)

    configure_first_logs(context.obj)
    raise typer.Exit(execute("demo", work, as_json=json))


@app.command("init-db")
def init_db(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Only report what is missing or differs.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Only print the SQL, without any connection.")] = False,
    json: Json = False,
) -> None:
    """Create the database and its tables, or bring them up to date."""
    from sensorsync.commands import init_db as command

    if check and sql:
        raise typer.BadParameter("--check and --sql exclude each other.")
    work = command.check if check else command.sql if sql else command.run
    run(context, command.COMMAND, lambda loaded: work(loaded.settings), as_json=json)


@config_app.command("show")
def config_show(context: typer.Context, json: Json = False) -> None:
    """Print every setting with its value and where it is from. Secrets are not shown."""
    from sensorsync.commands import config

    run(context, "config show", config.show, as_json=json)


@config_app.command("check")
def config_check(context: typer.Context, json: Json = False) -> None:
    """Validate the configuration and the files that it names, without any network."""
    from sensorsync.commands import config

    run(context, "config check", config.check, as_json=json)


@config_app.command("schema")
def config_schema(json: Json = False) -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from sensorsync.commands import config
    from sensorsync.console.execution import execute

    raise typer.Exit(execute("config schema", config.schema, as_json=json))
