"""The parts that every command uses: the typer app, the global options, and `run`."""
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
    rich_markup_mode=None,  # plain help, because rich takes three times as long
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")
app.add_typer(config_app, name="config")
dlq_app = typer.Typer(no_args_is_help=True, help="Look into the dead-letter box, empty it, fill it.")
app.add_typer(dlq_app, name="dlq")

Engine = Literal["native", "paho"]
"""The engines of `mqtt.client`."""
Client = Annotated[
    Engine | None, typer.Option("--client", help="The engine that speaks to the broker.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON envelope on stdout, for machines.")]
Plain = Annotated[bool, typer.Option("--plain", help="Log lines alone, no live panel on a terminal.")]


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The options before the command."""

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
    """Load the settings, run one command, show its result and exit with its exit code.

    `command` is its name as typed. `work` gets the loaded settings and returns a CommandResult (or a coroutine of one).
    `settings` are the command's flags by dotted key, None where not given. `flags` names a flag that is not called like
    the last part of its key. An example:

        run(context, "subscribe", lambda loaded: subscribe.run(loaded.settings, until_idle=until_idle),
            settings={"pipeline.batch_size": batch_size, "mqtt.on_stop": "leave" if end_sessions else None},
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
    """Run one process of `subscribe --processes`, with the configuration that the supervisor sends on standard input."""
    from sensorsync.console.execution import execute

    def receive_and_work() -> ResultOrCoroutine:
        from sensorsync.commands import subscribe
        from sensorsync.console import logs
        from sensorsync.service.supervisor import receive_config

        config = receive_config(sys.stdin.buffer)
        logs.configure(config.settings.log.level, config.settings.log.format)
        return subscribe.run_supervised(config.settings, process=number, until_idle=config.until_idle)

    configure_initial_logging(context.obj)
    raise typer.Exit(execute("subscribe", receive_and_work, as_json=False))


def configure_initial_logging(options: GlobalOptions) -> None:
    """Configure logging by the flags alone, until the settings are known."""
    from sensorsync.console import logs

    logs.configure(options.log_level or "INFO", options.log_format or "text")


def parse_duration_flag(flag: str, text: str | None) -> float | None:
    """Return the seconds of a flag that is not a setting. Raises UsageError."""
    from sensorsync.config.sections.units import parse_duration

    return _parse_flag(parse_duration, flag, text)


def parse_size_flag(flag: str, text: str | None) -> int | None:
    """Return the bytes of a flag that is not a setting. Raises UsageError."""
    from sensorsync.config.sections.units import parse_size

    return _parse_flag(parse_size, flag, text)


def _parse_flag(parse: Callable[[str], T], flag: str, text: str | None) -> T | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from error


def confirm(question: str, *, no_terminal_message: str, hint: str) -> bool:
    """Ask for confirmation. Raises UsageError with `no_terminal_message` when stdin is not a terminal."""
    if not sys.stdin.isatty():
        raise UsageError(no_terminal_message, hint=hint)
    return typer.confirm(question, err=True)


def parse_time_flag(flag: str, text: str | None) -> float | None:
    """Return the Unix time in seconds of a flag. Raises UsageError.

    The text is an RFC 3339 time or a duration before now, such as `2h`.
    """
    from sensorsync.config.sections.units import parse_duration

    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        return when.timestamp()  # without a zone it is local time
    try:
        return time.time() - parse_duration(text)
    except ValueError:
        raise UsageError(
            f"{flag}: {text!r} is no time: write 2026-01-02T03:04:05Z, 2026-01-02 or a duration ago, such as 2h"
        ) from None
