"""The commands of the dead-letter box, `sensorsync dlq ...`."""
# ruff: noqa: PLC0415 - imports are inside the functions for speed

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorsync.cli.filters import Filters, with_filter_options
from sensorsync.cli.wiring import Json, confirm, dlq_app, run

if TYPE_CHECKING:
    from sensorsync.commands.result import CommandResult
    from sensorsync.config import LoadedSettings


@dlq_app.command("inspect")
@with_filter_options()
def dlq_inspect(
    context: typer.Context,
    filters: Filters,
    limit: Annotated[int, typer.Option("--limit", help="How many letters to list.", min=0, metavar="N")] = 20,
    json: Json = False,
) -> None:
    """Count the letters by reason and list the latest ones."""
    from sensorsync.commands import dlq as command

    run(
        context,
        "dlq inspect",
        lambda loaded: command.inspect(loaded.settings, filters.criteria(), limit=limit),
        as_json=json,
    )


@dlq_app.command("show")
def dlq_show(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID", help="The letter's id, as inspect lists it.")],
    json: Json = False,
) -> None:
    """Print one letter whole. Its headers, its properties, its payload and why it was refused each time."""
    from sensorsync.commands import dlq as command

    run(context, "dlq show", lambda loaded: command.show(loaded.settings, number), as_json=json)


@dlq_app.command("replay")
@with_filter_options(state=False)
def dlq_replay(
    context: typer.Context,
    filters: Filters,
    maximum: Annotated[int | None, typer.Option("--max", help="Letters at most.", min=1, metavar="N")] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Letters a second at most.", min=0.001, metavar="N")
    ] = None,
    max_attempts: Annotated[
        int | None,
        typer.Option("--max-attempts", help="Attempts after which a letter is quarantined.", metavar="N"),
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Also letters whose next try is not due yet.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which letters can be decoded now; change nothing.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another replay to end, if there is one.")] = False,
    json: Json = False,
) -> None:
    """Try to store the letters that are due, as `subscribe` would. What is stored leaves the box. Made for cron."""
    from sensorsync.commands import dlq_replay as command

    async def work(loaded: LoadedSettings) -> CommandResult:
        options = command.ReplayOptions(
            filters.criteria(),
            max_letters=maximum,
            rate=rate,
            due_only=not now,
            dry_run=dry_run,
            wait=wait,
        )
        return await command.run(loaded.settings, options)

    run(context, command.COMMAND, work, as_json=json, settings={"dead_letters.max_attempts": max_attempts})


@dlq_app.command("release")
@with_filter_options(state=False)
def dlq_release(
    context: typer.Context,
    filters: Filters,
    json: Json = False,
) -> None:
    """Let quarantined letters be replayed again. Their attempts count from the first. Without a filter: all of them."""
    from sensorsync.commands import dlq as command

    run(context, "dlq release", lambda loaded: command.release(loaded.settings, filters.criteria()), as_json=json)


@dlq_app.command("purge")
@with_filter_options()
def dlq_purge(
    context: typer.Context,
    filters: Filters,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", help="Only letters that came last longer ago than this.", metavar="DURATION"),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every letter, if nothing else says which.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Delete letters for good. Asks first; without a terminal it needs --yes."""
    from sensorsync.commands import dlq as command

    def work(loaded: LoadedSettings) -> CommandResult:
        chosen = filters.criteria(older_than=older_than)
        return command.purge(
            loaded.settings, chosen, everything=everything, confirm=lambda count: yes or _confirm_deletion(count)
        )

    run(context, "dlq purge", work, as_json=json)


@dlq_app.command("export")
@with_filter_options()
def dlq_export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, or - for standard output.")],
    filters: Filters,
    force: Annotated[bool, typer.Option("--force", help="Replace the file, if it is there.")] = False,
    json: Json = False,
) -> None:
    """Write letters as JSON lines, payloads in base64. They stay in the box; `dlq import` restores them."""
    from sensorsync.commands import dlq_transfer as command
    from sensorsync.commands.result import CommandResult
    from sensorsync.console.execution import redirect_stdout_to_devnull

    if json and str(file) == "-":
        raise typer.BadParameter("--json needs standard output for itself: name a file.")

    def work(loaded: LoadedSettings) -> CommandResult:
        chosen = filters.criteria()
        target = None if str(file) == "-" else file
        try:
            return command.export(loaded.settings, chosen, target, sys.stdout.buffer, force=force)
        except BrokenPipeError:  # as with `| head`
            redirect_stdout_to_devnull()
            return CommandResult("dlq export")

    run(context, "dlq export", work, as_json=json)


@dlq_app.command("import")
def dlq_import(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export wrote, or - for standard input.")],
    json: Json = False,
) -> None:
    """Put exported letters into the box, as they were. Letters that are there already stay as they are."""
    from sensorsync.commands import dlq_transfer as command

    def work(loaded: LoadedSettings) -> CommandResult:
        return command.import_letters(loaded.settings, None if str(file) == "-" else file, sys.stdin.buffer)

    run(context, "dlq import", work, as_json=json)


def _confirm_deletion(count: int) -> bool:
    unasked = f"{count:,} letters would be deleted for good, and there is nobody to ask"
    return confirm(f"Delete {count:,} letters for good?", no_terminal_message=unasked, hint="add --yes")
