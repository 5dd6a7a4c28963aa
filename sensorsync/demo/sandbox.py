"""A folder of its own with a configuration, private services, and our own commands run against them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sensorsync.config.reference.keys import setting_keys
from sensorsync.demo.child import Child, child_environment
from sensorsync.demo.service import Service
from sensorsync.errors import ExitCode, Problem, SensorsyncError

T = TypeVar("T")
PROGRAM = (sys.executable, "-m", "sensorsync")
JsonObject = dict[str, Any]
"""One line of a command's JSON log."""


class CommandFailed(Exception):
    """A command that we ran did not do its part: its exit code, and what it said about it."""

    def __init__(self, exit_code: ExitCode, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems[0].message)
        self.exit_code = exit_code
        self.problems = problems


class Sandbox:
    """`folder` holds everything: configuration, data, logs. Nothing of the user's settings reaches what runs in it."""

    def __init__(self, folder: Path, *, program: Sequence[str] = PROGRAM) -> None:
        self.folder = folder
        self._program = program
        self.config_file = folder / "sensorsync.yaml"
        self.services: list[Service] = []
        self._monitored: list[Child] = []
        self._commands: list[Child] = []
        self._monitored_changed = asyncio.Event()
        """What must live is not the same any more."""
        aliases = {alias for key in setting_keys().values() for alias in key.aliases}
        self._environ = child_environment(os.environ, frozenset(aliases))

    async def start_service(self, service: Service) -> None:
        """Start a service that must live until `end`."""
        self.services.append(service)
        await service.start()
        self._monitor(service.child)

    async def restart_service(self, service: Service) -> None:
        """End it and start it again, with its data."""
        self._expect_exit(service.child)
        await service.restart()
        self._monitor(service.child)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Write the configuration file; it holds secrets, so that only we can read it."""
        self.config_file.touch(mode=0o600)
        # JSON is YAML (1.2), and both can read it.
        self.config_file.write_text(json.dumps(settings, indent=2, default=str) + "\n", encoding="utf-8")

    async def start(
        self,
        command: str,
        *arguments: str,
        on_record: Callable[[JsonObject], None] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Child:
        """Start a command of ours and return at once; `on_record` gets what it logs, `environ` are settings of it alone."""
        child = Child(
            command,
            [*self._program, "--config", str(self.config_file), "--log-format", "json", command, *arguments],
            folder=self.folder,
            log_file=self.folder / f"{command}.log",
            environ={**self._environ, **(environ or {})},
            on_line=None if on_record is None else _parse_lines(on_record),
        )
        self._commands.append(child)
        await child.start()
        return child

    async def start_monitored(
        self, command: str, *, on_record: Callable[[JsonObject], None], environ: Mapping[str, str] | None = None
    ) -> Child:
        """Start a command that must live until it is stopped or killed."""
        child = await self.start(command, on_record=on_record, environ=environ)
        self._monitor(child)
        return child

    async def kill_monitored(self, child: Child) -> None:
        """`kill -9`, on purpose."""
        self._expect_exit(child)
        await child.kill()

    async def stop_monitored(self, child: Child, timeout: float) -> None:
        """Stop a command in an orderly way. Raises CommandFailed when it had to be killed or complains."""
        self._expect_exit(child)
        if await child.stop(timeout):
            raise failure_from_log(child)

    async def run(
        self, command: str, *arguments: str, on_record: Callable[[JsonObject], None] | None = None
    ) -> dict[str, Any]:
        """Run a command with `--json` to its end; return its envelope, also one of failure. Raises CommandFailed when it left none."""
        child = await self.start(command, *arguments, "--json", on_record=on_record)
        await self.run_while_monitored(child.wait())
        try:
            envelope = json.loads(child.output)
        except ValueError:
            raise failure_from_log(child) from None
        if not isinstance(envelope, dict) or "exit_code" not in envelope:
            raise failure_from_log(child)
        return envelope

    async def run_while_monitored(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Raises CommandFailed, or the service's error, as soon as something ends that must live."""
        task = asyncio.ensure_future(work)
        watches: dict[asyncio.Task[int], Child] = {}
        changed = asyncio.create_task(self._monitored_changed.wait())
        try:
            while not task.done():
                watched = set(watches.values())
                watches |= {asyncio.create_task(c.wait()): c for c in self._monitored if c not in watched}
                await asyncio.wait({task, changed, *watches}, return_when=asyncio.FIRST_COMPLETED)
                dead = [watches.pop(watch) for watch in list(watches) if watch.done()]
                if not task.done() and (unasked := [child for child in dead if child in self._monitored]):
                    raise self._exit_error(unasked[0])
                if changed.done():
                    self._monitored_changed.clear()
                    changed = asyncio.create_task(self._monitored_changed.wait())
            return task.result()
        finally:
            for one in (task, changed, *watches):
                one.cancel()
            await asyncio.gather(task, changed, *watches, return_exceptions=True)

    async def stop_services(self) -> None:
        """Stop the services in an orderly way, the last first."""
        self._monitored.clear()
        for service in reversed(self.services):
            await service.stop()

    async def kill(self) -> None:
        """End all that still runs, at once."""
        self._monitored.clear()
        await asyncio.gather(
            *(child.kill() for child in self._commands), *(service.kill() for service in self.services)
        )

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _monitor(self, child: Child | None) -> None:
        if child is not None:
            self._monitored.append(child)
            self._monitored_changed.set()

    def _expect_exit(self, child: Child | None) -> None:
        if child in self._monitored:
            self._monitored.remove(child)

    def _exit_error(self, child: Child) -> Exception:
        for service in self.services:
            if service.child is child:
                return service.failure(child)
        return failure_from_log(child)


def failure_from_envelope(envelope: Mapping[str, Any]) -> CommandFailed:
    """The failure that an envelope tells of."""
    return CommandFailed(ExitCode(envelope["exit_code"]), problems_from_envelope(envelope))


def problems_from_envelope(envelope: Mapping[str, Any]) -> tuple[Problem, ...]:
    """The errors of an envelope."""
    return tuple(Problem(error["code"], error["message"], error.get("hint")) for error in envelope["errors"])


def failure_from_log(child: Child) -> CommandFailed:
    """The failure of a command that left no envelope: what it logged as its problem, else its last lines."""
    code = child.returncode
    records = [record for line in child.last_log_lines if (record := _parse_record(line)) is not None]
    told = [record for record in records if record.get("event") == "problem"]
    if told:
        problems = tuple(Problem(str(one.get("code")), str(one["message"]), one.get("hint")) for one in told)
        return CommandFailed(_exit_code(code), problems)
    lines = [str(record.get("message", "")) for record in records] or child.last_log_lines
    said = " | ".join(line for line in lines[-4:] if line) or "it logged nothing"
    how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with {code}"
    problem = Problem(
        SensorsyncError.code, f"`sensorsync {child.name}` {how}: {said}", "Run again with --keep for its whole log."
    )
    return CommandFailed(_exit_code(code), (problem,))


def _exit_code(code: int | None) -> ExitCode:
    with suppress(ValueError):
        if code:
            return ExitCode(code)
    return ExitCode.UNEXPECTED


def _parse_lines(on_record: Callable[[JsonObject], None]) -> Callable[[str], None]:
    def on_line(line: str) -> None:
        if (record := _parse_record(line)) is not None:
            on_record(record)

    return on_line


def _parse_record(line: str) -> JsonObject | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
