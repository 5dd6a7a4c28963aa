"""A folder with a configuration, private services, and our own commands that run against them."""

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
"""A JSON object, such as one line of a command's log."""


class CommandFailed(Exception):
    """The failure of a command that we ran, with its exit code and the problems that it reported."""

    def __init__(self, exit_code: ExitCode, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems[0].message)
        self.exit_code = exit_code
        self.problems = problems


class Sandbox:
    """A folder with the configuration, data and logs of a run. No setting of the user reaches the programs in it."""

    def __init__(self, folder: Path, *, program: Sequence[str] = PROGRAM) -> None:
        self.folder = folder
        self._program = program
        self.config_file = folder / "sensorsync.yaml"
        self.services: list[Service] = []
        self._monitored: list[Child] = []
        self._commands: list[Child] = []
        self._monitored_changed = asyncio.Event()
        """Set when the monitored children have changed."""
        aliases = {alias for key in setting_keys().values() for alias in key.aliases}
        self._environ = child_environment(os.environ, frozenset(aliases))

    async def start_service(self, service: Service) -> None:
        """Start a service that must run until `stop_services` or `kill`."""
        self.services.append(service)
        await service.start()
        self._monitor(service.child)

    async def restart_service(self, service: Service) -> None:
        """Stop a service and start it again, with its data."""
        self._expect_exit(service.child)
        await service.restart()
        self._monitor(service.child)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Write the configuration file. It holds secrets, so only we can read it."""
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
        """Start one of our commands and return at once.

        `on_record` is called with each record that it logs; `environ` are settings of this command alone.
        """
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
        """Start a command that must run until it is stopped or killed."""
        child = await self.start(command, on_record=on_record, environ=environ)
        self._monitor(child)
        return child

    async def kill_monitored(self, child: Child) -> None:
        """Kill a command with `kill -9`, on purpose."""
        self._expect_exit(child)
        await child.kill()

    async def stop_monitored(self, child: Child, timeout: float) -> None:
        """Stop a command in an orderly way. Raises CommandFailed when it had to be killed or reports a failure."""
        self._expect_exit(child)
        if await child.stop(timeout):
            raise failure_from_log(child)

    async def run(
        self, command: str, *arguments: str, on_record: Callable[[JsonObject], None] | None = None
    ) -> dict[str, Any]:
        """Run a command with `--json` to its end and return its envelope, also one of a failure.

        Raises CommandFailed when there is no envelope.
        """
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
        """Return the result of `work`.

        Raises CommandFailed, or the service's error, as soon as a monitored process ends.
        """
        task = asyncio.ensure_future(work)
        waits: dict[asyncio.Task[int], Child] = {}
        changed = asyncio.create_task(self._monitored_changed.wait())
        try:
            while not task.done():
                watched = set(waits.values())
                waits |= {asyncio.create_task(c.wait()): c for c in self._monitored if c not in watched}
                await asyncio.wait({task, changed, *waits}, return_when=asyncio.FIRST_COMPLETED)
                dead = [waits.pop(one) for one in list(waits) if one.done()]
                if not task.done() and (unexpected := [child for child in dead if child in self._monitored]):
                    raise self._exit_error(unexpected[0])
                if changed.done():
                    self._monitored_changed.clear()
                    changed = asyncio.create_task(self._monitored_changed.wait())
            return task.result()
        finally:
            for one in (task, changed, *waits):
                one.cancel()
            await asyncio.gather(task, changed, *waits, return_exceptions=True)

    async def stop_services(self) -> None:
        """Stop the services in an orderly way, the last one first."""
        self._monitored.clear()
        for service in reversed(self.services):
            await service.stop()

    async def kill(self) -> None:
        """Kill everything that still runs."""
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
    """Return the failure that an envelope reports."""
    return CommandFailed(ExitCode(envelope["exit_code"]), problems_from_envelope(envelope))


def problems_from_envelope(envelope: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Return the errors of an envelope."""
    return tuple(Problem(error["code"], error["message"], error.get("hint")) for error in envelope["errors"])


def failure_from_log(child: Child) -> CommandFailed:
    """Return the failure of a command without an envelope: the problems that it logged, else its last lines."""
    code = child.returncode
    records = [record for line in child.last_log_lines if (record := _parse_record(line)) is not None]
    logged = [record for record in records if record.get("event") == "problem"]
    if logged:
        problems = tuple(Problem(str(one.get("code")), str(one["message"]), one.get("hint")) for one in logged)
        return CommandFailed(_exit_code(code), problems)
    lines = [str(record.get("message", "")) for record in records] or child.last_log_lines
    output = " | ".join(line for line in lines[-4:] if line) or "it logged nothing"
    how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with {code}"
    problem = Problem(
        SensorsyncError.code, f"`sensorsync {child.name}` {how}: {output}", "Run again with --keep for its whole log."
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
