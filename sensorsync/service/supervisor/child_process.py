"""One child process. It is started with its configuration, its log is read line by line, and its exit is reported."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sensorsync.errors import ExitCode, Problem

logger = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-m", "sensorsync")
MAX_LINE_BYTES = 1 << 20
"""Maximum length of a line that is read from a process, in bytes."""
LogEntry = dict[str, Any]
"""One line of a process's JSON log."""
_REQUIRED_KEYS = frozenset({"ts", "level", "logger", "message", "event"})
_LOG_RECORD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


@dataclass(frozen=True, slots=True)
class ExitReport:
    """The exit of a child process."""

    exit_code: int
    """The exit code. A negative one is the signal that terminated the process."""
    connected: bool
    """True when it was connected and subscribed at any time."""
    stopped_by: str | None
    """The reason that the process reported for its stop; None when it crashed."""
    problems: tuple[Problem, ...]
    last_log_lines: str
    seconds: float

    @property
    def description(self) -> str:
        """The exit as text for people."""
        how = (
            f"was terminated by {signal.Signals(-self.exit_code).name}"
            if self.exit_code < 0
            else f"exited with code {self.exit_code}"
        )
        why = self.problems[0].message if self.problems else self.last_log_lines
        return f"{how}: {why}" if why else how


class ChildProcess:
    """The child process with this `number`, from its start to its exit.

    `on_record` is called with its status, metrics and connection records. Its other log records are logged again here, under its
    number.
    """

    def __init__(self, number: int, config_line: bytes, on_record: Callable[[int, LogEntry], None]) -> None:
        self.number = number
        self.connected = asyncio.Event()
        self._config_line = config_line
        self._on_record = on_record
        self._process: asyncio.subprocess.Process | None = None
        self._pending_signal: signal.Signals | None = None
        self._stopped_by: str | None = None
        self._problems: list[Problem] = []
        self._last_log_lines: deque[str] = deque(maxlen=3)

    @property
    def pid(self) -> int | None:
        """Its process id; None before it is started."""
        return self._process.pid if self._process else None

    async def run(self, program: Sequence[str] = PROGRAM) -> ExitReport:
        """Start the process, and return once it has exited and its log is read to the end. Must be called on the main thread."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        words = [*program, "--log-format", "json", "subscribe", "--process", str(self.number)]
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C in the terminal reaches only the supervisor
                limit=MAX_LINE_BYTES,
            )
        except OSError as error:  # no free process or memory; the other processes continue
            return ExitReport(ExitCode.UNEXPECTED, False, None, (), f"it could not be started: {error}", 0.0)
        try:
            if self._pending_signal is not None:
                self.send_signal(self._pending_signal)
            assert process.stdin is not None and process.stderr is not None  # noqa: PT018, S101 - they are pipes
            with suppress(ConnectionError):  # it exited at once; its exit report has the reason
                process.stdin.write(self._config_line)
                await process.stdin.drain()
            await self._read_log(process.stderr)
            code = await process.wait()
        except BaseException:
            self.send_signal(signal.SIGKILL)
            raise
        last = " | ".join(self._last_log_lines)
        return ExitReport(
            code, self.connected.is_set(), self._stopped_by, tuple(self._problems), last, loop.time() - began
        )

    def send_signal(self, signum: signal.Signals) -> None:
        """Send a signal to the process if it runs. A process that is just being started gets it after its start."""
        if self._process is None:
            self._pending_signal = signum
        elif self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signum)

    async def _read_log(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # longer than the limit: a part of it is lost, the next lines are complete
                continue
            if not line:
                return
            self._handle_line(line.decode("utf-8", "replace").rstrip("\n"))

    def _handle_line(self, text: str) -> None:
        try:
            record = json.loads(text)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not record.keys() >= _REQUIRED_KEYS:
            self._last_log_lines.append(text)  # not a log record, but output of the interpreter
            logger.warning("[P%d] %s", self.number, text, extra={"process_number": self.number})
            return
        match record["event"]:
            case "status" | "metrics":
                self._on_record(self.number, record)
                return
            case "problem":
                self._problems.append(Problem(str(record.get("code")), record["message"], record.get("hint")))
                return
            case "connected":
                self.connected.set()
                self._forward_record(record)
                self._on_record(self.number, record)
                return
            case "stopped":
                self._stopped_by = record.get("stopped_by")
                record["event"] = "process_stopped"
        self._forward_record(record)

    def _forward_record(self, record: LogEntry) -> None:
        """Log a record of the child under its own logger and with its own time."""
        level = logging.getLevelNamesMapping().get(record["level"], logging.INFO)
        target = logging.getLogger(record["logger"])
        if not target.isEnabledFor(
            level
        ):  # child processes log INFO at least, so that the supervisor gets the records it needs
            return
        made = target.makeRecord(target.name, level, "", 0, f"[P{self.number}] {record['message']}", (), None)
        made.created = datetime.fromisoformat(record["ts"]).timestamp()
        extra = {
            name: value
            for name, value in record.items()
            if name not in _REQUIRED_KEYS and name not in _LOG_RECORD_ATTRIBUTES
        }
        vars(made).update(extra, event=record["event"], process_number=self.number)
        target.handle(made)
