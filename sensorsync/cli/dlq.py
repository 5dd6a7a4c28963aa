"""The commands of the dead-letter box: `sensorsync dlq ...`."""
# ruff: noqa: PLC0415 - imports are inside the functions for speed

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from sensorsync.cli.wiring import Json, dlq_app, duration, moment, run
from sensorsync.errors import UsageError

if TYPE_CHECKING:
    from sensorsync.config import Loaded
    from sensorsync.deadletters import Criteria
    from sensorsync.result import CommandResult

Reason = Annotated[str | None, typer.Option("--reason", help="Only letters with this reason.", metavar="REASON")]
Errno = Annotated[int | None, typer.Option("--errno", help="Only letters with this error number.", metavar="N")]
Device = Annotated[str | None, typer.Option("--device", help="Only letters of this device.", metavar="DEVICE")]
Topic = Annotated[
    str | None, typer.Option("--topic", help="Only letters with such a topic (wildcards + and #).", metavar="FILTER")
]
Since = Annotated[
    str | None,
    typer.Option("--since", help="Only letters that came last at or after this time, or so long ago.", metavar="TIME"),
]
Until = Annotated[
    str | None, typer.Option("--until", help="Only letters that came last before this time.", metavar="TIME")
]
State = Annotated[str | None, typer.Option("--state", help="parked or quarantined.", metavar="STATE")]


@dlq_app.command("inspect")
def dlq_inspect(
    context: typer.Context,
    reason: Reason = None,
    errno: Errno = None,
    device: Device = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    state: State = None,
    limit: Annotated[int, typer.Option("--limit", help="How many letters to list.", min=0, metavar="N")] = 20,
    json: Json = False,
) -> None:
    """Count the letters by reason and list the latest ones."""
    from sensorsync.commands import dlq as command

    def work(loaded: Loaded) -> CommandResult:
        chosen = _criteria(reason, errno, device, topic, since, until, state)
        return command.inspect(loaded.settings, chosen, limit=limit)

    run(context, "dlq inspect", work, as_json=json)


@dlq_app.command("show")
def dlq_show(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID", help="The letter's id, as inspect lists it.")],
    json: Json = False,
) -> None:
    """One letter whole: its headers, its properties, its payload and why it was refused each time."""
    from sensorsync.commands import dlq as command

    run(context, "dlq show", lambda loaded: command.show(loaded.settings, number), as_json=json)


@dlq_app.command("replay")
def dlq_replay(
    context: typer.Context,
    reason: Reason = None,
    errno: Errno = None,
    device: Device = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
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
    """Try to store the letters that are due, as `subscribe` would; what is stored leaves the box. Made for cron."""
    from sensorsync.commands import dlq_replay as command

    async def work(loaded: Loaded) -> CommandResult:
        options = command.Options(
            _criteria(reason, errno, device, topic, since, until),
            maximum=maximum,
            rate=rate,
            due_only=not now,
            dry_run=dry_run,
            wait=wait,
        )
        return await command.run(loaded.settings, options)

    run(context, command.COMMAND, work, as_json=json, settings={"dead_letters.max_attempts": max_attempts})


@dlq_app.command("release")
def dlq_release(
    context: typer.Context,
    reason: Reason = None,
    errno: Errno = None,
    device: Device = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    json: Json = False,
) -> None:
    """Let quarantined letters be replayed again, from their first attempt. Without a filter: all of them."""
    from sensorsync.commands import dlq as command

    def work(loaded: Loaded) -> CommandResult:
        return command.release(loaded.settings, _criteria(reason, errno, device, topic, since, until))

    run(context, "dlq release", work, as_json=json)


@dlq_app.command("purge")
def dlq_purge(
    context: typer.Context,
    reason: Reason = None,
    errno: Errno = None,
    device: Device = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    state: State = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", help="Only letters that came last longer ago than this.", metavar="DURATION"),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every letter, if nothing else says which.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Delete letters for good. Asks first; without a terminal it wants --yes."""
    from sensorsync.commands import dlq as command

    def work(loaded: Loaded) -> CommandResult:
        age = duration("--older-than", older_than)
        before = moment("--until", until)
        if age is not None:
            before = min(time.time() - age, float("inf") if before is None else before)
        chosen = _criteria(reason, errno, device, topic, since, None, state, before=before)
        return command.purge(loaded.settings, chosen, everything=everything, confirm=lambda count: yes or _sure(count))

    run(context, "dlq purge", work, as_json=json)


@dlq_app.command("export")
def dlq_export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, or - for standard output.")],
    reason: Reason = None,
    errno: Errno = None,
    device: Device = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    state: State = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file, if it is there.")] = False,
    json: Json = False,
) -> None:
    """Write letters as JSON lines, payloads in base64. They stay in the box; `dlq import` restores them."""
    from sensorsync.commands import dlq as command
    from sensorsync.console.execution import leave_stdout
    from sensorsync.result import CommandResult

    if json and str(file) == "-":
        raise typer.BadParameter("--json needs standard output for itself: name a file.")

    def work(loaded: Loaded) -> CommandResult:
        chosen = _criteria(reason, errno, device, topic, since, until, state)
        target = None if str(file) == "-" else file
        try:
            return command.export(loaded.settings, chosen, target, sys.stdout.buffer, force=force)
        except BrokenPipeError:  # as with `| head`
            leave_stdout()
            return CommandResult("dlq export")

    run(context, "dlq export", work, as_json=json)


@dlq_app.command("import")
def dlq_import(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export wrote, or - for standard input.")],
    json: Json = False,
) -> None:
    """Put exported letters into the box, as they were. Letters that are there already stay as they are."""
    from sensorsync.commands import dlq as command

    def work(loaded: Loaded) -> CommandResult:
        return command.import_letters(loaded.settings, None if str(file) == "-" else file, sys.stdin.buffer)

    run(context, "dlq import", work, as_json=json)


def _criteria(
    reason: str | None,
    errno: int | None,
    device: str | None,
    topic: str | None,
    since: str | None,
    until: str | None,
    state: str | None = None,
    *,
    before: float | None = None,
) -> Criteria:
    """Raises UsageError."""
    from sensorsync.config.topics import check_filter
    from sensorsync.deadletters import Criteria

    try:
        topic = None if topic is None else check_filter(topic)
    except ValueError as error:
        raise UsageError(f"--topic: {error}") from error
    if state not in {None, "parked", "quarantined"}:
        raise UsageError(f"--state: {state!r} is neither parked nor quarantined")
    return Criteria(
        reason=reason,
        errno=errno,
        device=device,
        topic=topic,
        since=moment("--since", since),
        until=before if until is None else moment("--until", until),
        state=cast(Literal["parked", "quarantined"] | None, state),
    )


def _sure(count: int) -> bool:
    """Ask. Raises UsageError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise UsageError(f"{count:,} letters would be deleted for good, and there is nobody to ask", hint="add --yes")
    return typer.confirm(f"Delete {count:,} letters for good?", err=True)
