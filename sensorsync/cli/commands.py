"""The commands, one short function each.

A command maps its flags to settings and passes the loaded settings to its function in `sensorsync/commands/`. The
module `console.execution` shows the result. Heavy imports are inside the functions, so that `--help` is fast.
"""
# ruff: noqa: PLC0415 - imports are inside the functions for speed

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sensorsync.cli.wiring import (
    Client,
    Json,
    Plain,
    app,
    config_app,
    configure_initial_logging,
    confirm,
    parse_duration_flag,
    run,
    run_supervised_process,
)

if TYPE_CHECKING:
    from sensorsync.commands.result import CommandResult
    from sensorsync.config import LoadedSettings

Flavor = Literal["mysql", "mariadb"]


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
    client: Client = None,
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
    end_sessions: Annotated[
        bool, typer.Option("--leave", help="At the end, drain the sessions and end them for good.")
    ] = False,
    adopt: Annotated[
        list[str] | None,
        typer.Option(
            "--adopt",
            help="Fetch what waits for an instance that is gone for good, and end its sessions; may be given several times.",
            metavar="INSTANCE",
        ),
    ] = None,
    plain: Plain = False,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", help="Serve /metrics, /healthz and /readyz there.", metavar="HOST:PORT"),
    ] = None,
    process: Annotated[int | None, typer.Option("--process", hidden=True)] = None,
) -> None:
    """Store what arrives: the pipeline, until Ctrl-C or SIGTERM."""
    from sensorsync.commands import subscribe as command

    if process is not None:
        run_supervised_process(context, process)

    async def work(loaded: LoadedSettings) -> CommandResult:
        from sensorsync.console.subscribe import SubscribeView

        idle = parse_duration_flag("--until-idle", until_idle)
        with SubscribeView(plain=plain) as view:
            return await command.run(loaded.settings, until_idle=idle, max_messages=max_messages, on_update=view.show)

    run(
        context,
        "subscribe",
        work,
        settings={
            "mqtt.topics": topic or None,
            "mqtt.connections": connections,
            "mqtt.client": client,
            "mqtt.ephemeral": ephemeral,
            "mqtt.on_stop": "leave" if end_sessions else None,
            "mqtt.adopt": adopt or None,
            "pipeline.processes": processes,
            "pipeline.workers": workers,
            "pipeline.batch_size": batch_size,
            "pipeline.batch_timeout": batch_timeout,
            "metrics.listen": metrics,
        },
        flags={"mqtt.topics": "--topic", "mqtt.on_stop": "--leave", "metrics.listen": "--metrics"},
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
    """Check the connection to the broker, step by step. The first step that fails names the cause and the fix."""
    from sensorsync.commands import check_cloud as command
    from sensorsync.console.check_cloud import CheckCloudView

    async def work(loaded: LoadedSettings) -> CommandResult:
        with CheckCloudView() as view:
            return await command.run(loaded.settings, command.CheckOptions(topic, probes, quick), view.show)

    run(context, command.COMMAND, work, as_json=json)


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
    """Try all of it on this machine, with nothing set up. A private broker and database, a signed load, an audit."""
    from sensorsync.commands import demo as command
    from sensorsync.console.demo import DemoView
    from sensorsync.console.execution import execute

    async def work() -> CommandResult:
        options = command.DemoOptions(messages, command.parse_broker(broker), mysql, file, keep, drill)
        with DemoView() as view:
            return await command.run(options, view.show)

    configure_initial_logging(context.obj)
    raise typer.Exit(execute("demo", work, as_json=json))


@app.command("init-db")
def init_db(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Only report what is missing, differs or is to be done.")
    ] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Only print the SQL, without any connection.")] = False,
    grants: Annotated[
        bool, typer.Option("--grants", help="Only print the statements that make accounts with the fewest privileges.")
    ] = False,
    flavor: Annotated[
        Flavor | None,
        typer.Option("--flavor", help="With --grants: for which server; else it is asked.", metavar="mysql|mariadb"),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="With --grants: where the accounts may connect from.", metavar="PATTERN")
    ] = "%",
    partitions: Annotated[
        bool,
        typer.Option("--partitions", help="Also make partitions by day, and those of the days to come. Made for cron."),
    ] = False,
    retain: Annotated[
        str | None,
        typer.Option("--retain", help="Also remove readings whose ts is older, such as 90d.", metavar="DURATION"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a rebuild of the table.")] = False,
    json: Json = False,
) -> None:
    """Create or update the database and its tables. Partitions them, and removes old readings, where that is asked for."""
    from sensorsync.commands import init_db as command

    if (sql or grants) and (partitions or retain is not None):
        raise typer.BadParameter("--partitions and --retain go with --check or alone.")
    if yes and (check or not (partitions or retain is not None)):
        raise typer.BadParameter("--yes goes with --partitions and --retain.")
    if check + sql + grants > 1:
        raise typer.BadParameter("--check, --sql and --grants exclude each other.")
    if not grants and (flavor is not None or host != "%"):
        raise typer.BadParameter("--flavor and --host need --grants.")

    def work(loaded: LoadedSettings) -> CommandResult:
        if grants:
            return command.grants(loaded.settings, flavor=flavor, host=host)
        if sql:
            return command.sql(loaded.settings)
        maintenance = command.MaintenanceOptions.from_flags(
            loaded.settings, partitions=partitions, retain=parse_duration_flag("--retain", retain)
        )
        if check:
            return command.check(loaded.settings, maintenance)
        return command.run(loaded.settings, maintenance, lambda cost: yes or _confirm_cost(cost))

    run(context, command.COMMAND, work, as_json=json)


def _confirm_cost(cost: str) -> bool:
    unasked, hint = f"{cost} There is nobody to ask.", "add --yes, once you have read this"
    return confirm(f"{cost}\nGo on?", no_terminal_message=unasked, hint=hint)


@config_app.command("show")
def config_show(context: typer.Context, json: Json = False) -> None:
    """Print every setting with its value and where it is from. Secrets are not shown."""
    from sensorsync.commands import config

    run(context, "config show", config.show, as_json=json)


@config_app.command("check")
def config_check(context: typer.Context, json: Json = False) -> None:
    """Validate the configuration, without any network. The files that it names are checked, too."""
    from sensorsync.commands import config

    run(context, "config check", config.check, as_json=json)


@config_app.command("schema")
def config_schema(json: Json = False) -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from sensorsync.commands import config
    from sensorsync.console.execution import execute

    raise typer.Exit(execute("config schema", config.schema, as_json=json))
