"""The command `map` on the command line."""
# ruff: noqa: PLC0415 - imports are inside the functions for speed

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorsync.cli.wiring import Client, Json, app, parse_duration_flag, run
from sensorsync.errors import UsageError

if TYPE_CHECKING:
    from sensorsync.commands.result import CommandResult
    from sensorsync.config import LoadedSettings, Settings
    from sensorsync.console.execution import ResultOrCoroutine

_INPUT_OPTIONS = "--topic T --payload P, --topic T --payload-file FILE, --file samples.jsonl, --live 20"


@app.command("map")
def map_messages(
    context: typer.Context,
    topic: Annotated[
        list[str] | None,
        typer.Option(
            "--topic",
            help="Topic of the message; with --live a topic filter, which may be given several times.",
            metavar="TOPIC",
        ),
    ] = None,
    payload: Annotated[str | None, typer.Option("--payload", help="The message, as text.", metavar="TEXT")] = None,
    payload_file: Annotated[
        Path | None,
        typer.Option(
            "--payload-file", help="The message is what this file holds, or - for standard input.", metavar="FILE"
        ),
    ] = None,
    user_properties: Annotated[
        list[str] | None,
        typer.Option(
            "--property", help="User property of the message; may be given several times.", metavar="NAME=VALUE"
        ),
    ] = None,
    content_type: Annotated[
        str | None, typer.Option("--content-type", help="Content type of the message.", metavar="TYPE")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="Messages from this file instead, one JSON object a line, or - for standard input.",
            metavar="FILE",
        ),
    ] = None,
    live: Annotated[
        int | None,
        typer.Option("--live", help="So many messages from the broker instead.", min=1, max=10_000, metavar="N"),
    ] = None,
    timeout: Annotated[
        str, typer.Option("--timeout", help="With --live: listen no longer than this.", metavar="DURATION")
    ] = "30s",
    client: Client = None,
    json: Json = False,
) -> None:
    """Show what would become of a message. Nothing is stored, and nothing is taken away from anybody."""
    from sensorsync.commands import map as command

    topics = tuple(topic or ())
    ways = {"--payload": payload, "--payload-file": payload_file, "--file": file, "--live": live}
    chosen = [flag for flag, value in ways.items() if value is not None]
    if len(chosen) != 1:
        words = f"{' and '.join(chosen)} exclude each other." if chosen else "There is no message to look at."
        raise UsageError(words, hint=f"Give one of: {_INPUT_OPTIONS}")
    one = payload is not None or payload_file is not None
    if one and len(topics) != 1:
        raise UsageError("A message has one topic.", hint=f"Give {chosen[0]} together with one --topic.")
    if not one and (user_properties or content_type is not None):
        raise UsageError("--property and --content-type go with --payload and --payload-file.")
    if file is not None and topics:
        raise UsageError("--topic does not go with --file.", hint="each line of the file has its own topic")

    def work(loaded: LoadedSettings) -> ResultOrCoroutine:
        settings = loaded.settings
        if live is not None:
            return listen(settings, command.LiveOptions(live, topics, parse_duration_flag("--timeout", timeout) or 0.0))
        if file is not None:
            return command.map_file(settings, None if str(file) == "-" else file, sys.stdin.buffer)
        if payload_file is not None:
            content = command.read_payload(None if str(payload_file) == "-" else payload_file, sys.stdin.buffer)
        else:
            content = (payload or "").encode(errors="surrogateescape")  # bytes of the command line that are not UTF-8
        pairs = tuple(_parse_property(text) for text in user_properties or ())
        return command.map_message(settings, command.InputMessage(topics[0], content, pairs, content_type))

    async def listen(settings: Settings, wanted: command.LiveOptions) -> CommandResult:
        from sensorsync.console.map import MapView

        with MapView(wanted.messages) as view:
            return await command.map_live(settings, wanted, view.show)

    run(context, command.COMMAND, work, as_json=json, settings={"mqtt.client": client})


def _parse_property(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--property: {text!r} is not NAME=VALUE")
    return name, value
