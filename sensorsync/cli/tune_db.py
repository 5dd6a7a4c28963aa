"""The command `tune-db` on the command line."""
# ruff: noqa: PLC0415 - imports are inside the functions for speed

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sensorsync.cli.wiring import Json, app, parse_duration_flag, parse_size_flag, run

if TYPE_CHECKING:
    from sensorsync.commands.result import CommandResult
    from sensorsync.config import LoadedSettings

ProfileName = Literal["durable", "balanced", "throughput"]


@app.command("tune-db")
def tune_db(
    context: typer.Context,
    profile: Annotated[
        ProfileName,
        typer.Option("--profile", help="How much a crash may lose: durable loses nothing.", metavar="PROFILE"),
    ] = "durable",
    memory: Annotated[
        str | None,
        typer.Option("--memory", help="Memory of the server's machine; by default this machine's.", metavar="SIZE"),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Set what is advised and dynamic (SET GLOBAL).")] = False,
    persist: Annotated[
        bool, typer.Option("--persist", help="With --apply: also for after a restart (SET PERSIST, MySQL only).")
    ] = False,
    accept_data_loss: Annotated[
        bool, typer.Option("--accept-data-loss", help="Needed to set, or print, less durable profiles.")
    ] = False,
    config_file: Annotated[
        bool, typer.Option("--config-file", help="Only print a fragment of my.cnf, for what --apply cannot set.")
    ] = False,
    revert: Annotated[bool, typer.Option("--revert", help="Put back what --apply has set.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time commits and rows in a scratch table, before and after --apply.")
    ] = False,
    seconds: Annotated[
        str, typer.Option("--seconds", help="How long one measurement lasts.", metavar="DURATION")
    ] = "5s",
    json: Json = False,
) -> None:
    """Report how the database server should be set. Sets it, measures it and takes it back, where that is asked for."""
    from sensorsync.commands import tune_db as command
    from sensorsync.console.tune_db import TuneDbView

    def work(loaded: LoadedSettings) -> CommandResult:
        options = command.TuneOptions(
            profile=profile,
            memory=parse_size_flag("--memory", memory),
            apply=apply,
            persist=persist,
            accept_data_loss=accept_data_loss,
            config_file=config_file,
            revert=revert,
            measure=measure,
            seconds=parse_duration_flag("--seconds", seconds) or 0.0,
        )
        with TuneDbView() as view:
            return command.run(loaded.settings, options, view.show)

    run(context, command.COMMAND, work, as_json=json)
