"""The entry point, which returns an exit code whatever the arguments are."""
# ruff: noqa: PLC0415 - imports are inside the functions for speed

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

import sensorsync.cli.commands
import sensorsync.cli.dlq
import sensorsync.cli.keys
import sensorsync.cli.load
import sensorsync.cli.map
import sensorsync.cli.tune_db  # noqa: F401 - the imports register the commands
from sensorsync.cli.wiring import PROGRAM, app
from sensorsync.errors import ExitCode, InterruptedByUser, SensorsyncError, UsageError
from sensorsync.runtime.key_text import hide_private_key

if TYPE_CHECKING:
    from sensorsync.console.execution import ResultOrCoroutine

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""The base class of every error of the command line.

typer has its own copy of click or uses the package. This finds the class in both cases.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with `arguments` (those of the process by default) and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        code = typer.main.get_command(app).main(words, prog_name=PROGRAM, standalone_mode=False)
    except typer.Abort:
        return _fail(PROGRAM, InterruptedByUser(), as_json=as_json)
    except SensorsyncError as error:
        return _fail(PROGRAM, error, as_json=as_json)
    except _UsageError as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else PROGRAM
        message = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(message)
            return int(ExitCode.USAGE)
        return _fail(path, UsageError(hide_private_key(message), hint=f"See `{path} --help`."), as_json=as_json)
    return int(code or 0)


def _fail(path: str, error: SensorsyncError, *, as_json: bool) -> int:
    from sensorsync.console.execution import execute

    def refuse() -> ResultOrCoroutine:
        raise error

    return execute(path.removeprefix(PROGRAM).strip() or PROGRAM, refuse, as_json=as_json)
