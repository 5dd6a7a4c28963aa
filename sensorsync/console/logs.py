"""Log handlers on stderr: a line of text for people, or one JSON object per line for machines."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from sensorsync.console.escape import printable

ROOT_LOGGER = "sensorsync"
_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SHORT_LEVELS = {"WARNING": "WARN", "CRITICAL": "CRIT"}
_LEVEL_COLORS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


class StderrHandler(logging.StreamHandler[TextIO]):
    """A handler that writes to the current sys.stderr, because a live display replaces it for a while."""

    suppressed_event: str | None = None
    """An event that is shown in another way at present."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    def emit(self, record: logging.LogRecord) -> None:
        if self.suppressed_event is None or getattr(record, "event", None) != self.suppressed_event:
            super().emit(record)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # the base class has a variable here
        return sys.stderr


class TextFormatter(logging.Formatter):
    """Lines such as `2026-11-24 20:15:03 INFO  message`, in local time, with a traceback indented below."""

    def __init__(self, *, color: bool) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level = f"{_SHORT_LEVELS.get(record.levelname, record.levelname):<5}"
        if self._color and (code := _LEVEL_COLORS.get(record.levelname)):
            level = f"\x1b[{code}m{level}\x1b[0m"
        line = f"{moment} {level} {printable(record.getMessage())}"
        # A supervised process sends its traceback as text.
        below = str(getattr(record, "traceback", ""))
        if record.exc_info and record.exc_info[0]:
            below = self.formatException(record.exc_info)
        return "\n".join([line, *(f"    {printable(text)}" for text in below.splitlines())])


class JsonFormatter(logging.Formatter):
    """One object per line: ts (UTC, RFC 3339), level, logger, message, event, then the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD_ATTRIBUTES}
        document: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "event": extra.pop("event", None),
        }
        document |= {name: value for name, value in extra.items() if name not in document}
        if record.exc_info and record.exc_info[0]:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


def configure(level: str, log_format: str) -> None:
    """Send our logs at `level` and above to stderr, as `text` or `json`, and those of other libraries from WARNING on.

    A second call replaces the first and does not change the handlers of others. An unknown level counts as INFO,
    because the settings report it.
    """
    root = logging.getLogger()
    for old in _our_handlers():
        root.removeHandler(old)
    handler = StderrHandler()
    handler.setFormatter(
        JsonFormatter() if log_format == "json" else TextFormatter(color=use_color(sys.stderr, os.environ))
    )
    root.addHandler(handler)
    logging.getLogger(ROOT_LOGGER).setLevel(logging.getLevelNamesMapping().get(level.upper(), logging.INFO))
    logging.captureWarnings(capture=True)


def is_json() -> bool:
    """Return True when stderr carries JSON lines, so that nothing else may be written there."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in _our_handlers())


def suppress_event(event: str | None) -> None:
    """Suppress the log records of this event until the next call; None logs everything again."""
    for handler in _our_handlers():
        handler.suppressed_event = event


def _our_handlers() -> list[StderrHandler]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, StderrHandler)]


def use_color(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return True on a terminal, unless NO_COLOR is set (https://no-color.org) or the terminal is dumb."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
