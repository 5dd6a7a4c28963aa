"""The renderer of all results: the JSON envelope, or a text for people, from the same object."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from sensorsync.commands.result import CommandResult
from sensorsync.console import logs
from sensorsync.console.errors import print_problems

Renderer = Callable[[Mapping[str, Any], Any], None]
"""A function `render(data, console)` that prints a command's data to a rich console."""

RENDERERS: dict[str, str] = {
    "check-cloud": "sensorsync.console.check_cloud:render",
    "audit": "sensorsync.console.audit:render",
    "demo": "sensorsync.console.demo:render",
    "config show": "sensorsync.console.config:show",
    "config check": "sensorsync.console.config:check",
    "config schema": "sensorsync.console.config:schema",
    "dlq inspect": "sensorsync.console.dlq:inspect",
    "dlq replay": "sensorsync.console.dlq:replay",
    "dlq show": "sensorsync.console.dlq:show",
    "keys generate": "sensorsync.console.keys:generate",
    "keys list": "sensorsync.console.keys:show",
    "keys show-public": "sensorsync.console.keys:show_public",
    "init-db": "sensorsync.console.init_db:render",
    "map": "sensorsync.console.map:render",
    "stress-publish": "sensorsync.console.stress_publish:render",
    "tune-db": "sensorsync.console.tune_db:render",
}
"""Renderer of each command, as `module:function`. A command that is not here gets a table of its data."""

RENDERS_PROBLEMS = frozenset({"check-cloud"})
"""Commands whose text for people shows the problems in their place. They are not printed on stderr again."""

_PIPE_WIDTH = 500
"""Width where stdout is not a terminal. No table folds then, because a pipe is read by grep and not on a screen."""
_DEFAULT_RENDERER = "sensorsync.console.table:render"


def render_result(result: CommandResult, *, as_json: bool) -> None:
    """Print the envelope alone on stdout with `as_json`; else print the data on stdout and the problems on stderr."""
    if as_json:
        sys.stdout.write(json.dumps(result.envelope(), allow_nan=False) + "\n")
        sys.stdout.flush()
        return
    if result.data:
        _renderer(result.command)(result.data, _stdout_console())
        sys.stdout.flush()
        if result.command in RENDERS_PROBLEMS and not logs.is_json():
            return
    print_problems(result.problems)


def _renderer(command: str) -> Renderer:
    module, _, function = RENDERERS.get(command, _DEFAULT_RENDERER).partition(":")
    renderer: Renderer = getattr(import_module(module), function)
    return renderer


def _stdout_console() -> Any:
    from rich.console import Console  # noqa: PLC0415 - not needed for JSON

    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
