"""What every command of the command line is wired with: the typer app, the global options, and `run`."""
# ruff: noqa: PLC0415 - imports are inside the functions for speed

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, TypeVar

import typer

from sensorsync.errors import UsageError

if TYPE_CHECKING:
    from sensorsync.config import LoadedSettings
    from sensorsync.console.execution import ResultOrCoroutine

PROGRAM = "sensorsync"
T = TypeVar("T")
app = typer.Typer(
    name=PROGRAM,
    help="A sensor pipeline from MQTT to MySQL that acknowledges a message only after it is stored.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: drawn by rich, it takes three times as long to come
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")
app.add_typer(config_app, name="config")
dlq_app = typer.Typer(no_args_is_help=True, help="Look into the dead-letter box, empty it, fill it.")
app.add_typer(dlq_app, name="dlq")

Engine = Literal["native", "paho"]
"""See `mqtt.client`."""
Client = Annotated[
    Engine | None, typer.Option("--client", help="The engine that speaks to the broker.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON envelope on stdout, for machines.")]
Plain = Annotated[bool, typer.Option("--plain", help="Log lines alone, no live panel on a terminal.")]


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """What stands before the command."""

    config: Path | None
    log_level: str | None
    log_format: str | None


def _print_version(requested: bool) -> None:
    if requested:
        from sensorsync import __version__

        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", help="Configuration file (YAML).", metavar="FILE", show_default=False)
    ] = None,
    log_level: Annotated[
        str | None, typer.Option("--log-level", help="DEBUG, INFO, WARNING, ERROR or CRITICAL.", metavar="LEVEL")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option("--log-format", help="text or json, on stderr.", metavar="FORMAT")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    context.obj = GlobalOptions(config, log_level, log_format)


def run(
    context: typer.Context,
    command: str,
    work: Callable[[LoadedSettings], ResultOrCoroutine],
    *,
    as_json: bool = False,
    settings: Mapping[str, object] | None = None,
    flags: Mapping[str, str] | None = None,
) -> None:
    """Load the settings, run one command, show its result, leave with its exit code.

    `command` is its name as typed, `work` gets the loaded settings and returns a CommandResult (or a coroutine of one). `settings` are
    the command's flags by dotted key, None where not given; `flags` names a flag that isn't called like the last part of its key:

        run(context, "subscribe", lambda loaded: subscribe.run(loaded.settings, until_idle=until_idle),
            settings={"pipeline.batch_size": batch_size, "mqtt.on_stop": "leave" if leave else None},
            flags={"mqtt.on_stop": "--leave"})
    """
    from sensorsync.console.execution import execute

    options: GlobalOptions = context.obj
    overrides = {"log.level": options.log_level, "log.format": options.log_format, **(settings or {})}
    names = {"log.level": "--log-level", "log.format": "--log-format", **(flags or {})}

    def load_and_work() -> ResultOrCoroutine:
        from sensorsync.config import load
        from sensorsync.console import logs

        loaded = load(options.config, overrides, flags=names)
        logs.configure(loaded.settings.log.level, loaded.settings.log.format)
        return work(loaded)

    configure_initial_logging(options)
    raise typer.Exit(execute(command, load_and_work, as_json=as_json))


def run_supervised_process(context: typer.Context, number: int) -> NoReturn:
    """Be one process of `subscribe --processes`, with what the supervisor hands over on standard input."""
    from sensorsync.console.execution import execute

    def receive_and_work() -> ResultOrCoroutine:
        from sensorsync.commands import subscribe
        from sensorsync.console import logs
        from sensorsync.service.supervisor import receive_config

        handover = receive_config(sys.stdin.buffer)
        logs.configure(handover.settings.log.level, handover.settings.log.format)
        return subscribe.run_supervised(handover.settings, process=number, until_idle=handover.until_idle)

    configure_initial_logging(context.obj)
    raise typer.Exit(execute("subscribe", receive_and_work, as_json=False))


def configure_initial_logging(options: GlobalOptions) -> None:
    """Until the settings are known, logs go by the flags alone."""
    from sensorsync.console import logs

    logs.configure(options.log_level or "INFO", options.log_format or "text")


def parse_duration_flag(flag: str, text: str | None) -> float | None:
    """A flag that is no setting, in seconds. Raises UsageError."""
    from sensorsync.config.sections.units import parse_duration

    return _parse_flag(parse_duration, flag, text)


def parse_size_flag(flag: str, text: str | None) -> int | None:
    """A flag that is no setting, in bytes. Raises UsageError."""
    from sensorsync.config.sections.units import parse_size

    return _parse_flag(parse_size, flag, text)


def _parse_flag(parse: Callable[[str], T], flag: str, text: str | None) -> T | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from error


def confirm(question: str, *, no_terminal_message: str, hint: str) -> bool:
    """Ask. Raises UsageError, saying `unasked`, where nobody can be asked."""
    if not sys.stdin.isatty():
        raise UsageError(no_terminal_message, hint=hint)
    return typer.confirm(question, err=True)


def parse_time_flag(flag: str, text: str | None) -> float | None:
    """A time as a flag has it, RFC 3339 or so long ago (`2h`), as Unix time in seconds. Raises UsageError."""
    from sensorsync.config.sections.units import parse_duration

    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        return when.timestamp()  # without a zone: the local one
    try:
        return time.time() - parse_duration(text)
    except ValueError:
        raise UsageError(
            f"{flag}: {text!r} is no time: write 2026-01-02T03:04:05Z, 2026-01-02 or a duration ago, such as 2h"
        ) from None
