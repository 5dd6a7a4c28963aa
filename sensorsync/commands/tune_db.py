"""`tune-db`: what the database server could be set to for our workload; setting it, measuring it, and taking it back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sensorsync.commands.result import CommandResult
from sensorsync.config import DatabaseSettings, Settings
from sensorsync.errors import ConfigurationError, ExitCode, Problem, UsageError
from sensorsync.pipeline.contract import SinkMisconfigured, SinkUnavailable
from sensorsync.storage.mysql import tuning
from sensorsync.storage.mysql.tuning import Advice, Outcome, Product, Profile, Situation, Status, UndoFile, machine
from sensorsync.storage.open import database_errors

COMMAND = "tune-db"
logger = logging.getLogger(__name__)

Show = Callable[[str], None]
"""Told what is under way."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be done; by default only a report."""

    profile: str = "durable"
    memory: int | None = None
    """Bytes of memory of the server's machine; None: this machine's, if the server runs on it."""
    apply: bool = False
    persist: bool = False
    accept_data_loss: bool = False
    config_file: bool = False
    revert: bool = False
    measure: bool = False
    seconds: float = 5.0
    """How long one measurement lasts."""


def run(settings: Settings, options: Options, show: Show = lambda _: None) -> CommandResult:
    """Report, and set, measure or revert as `options` say.

    Exit code 5 when a variable could not be set or restored, or nothing could be measured; each is a problem of its own, and the
    rest goes on. UsageError for options that do not go together, DatabaseError when the server is not to be reached, IncompleteError
    when there is nothing to revert, AlreadyRunningError when another tune-db is at work on the server.
    """
    profile = _checked(settings.database, options)
    with database_errors(), tuning.tuned(settings.database) as server:
        return _Tuning(settings, options, profile, server, show).run()


def _checked(database: DatabaseSettings, options: Options) -> Profile:
    """Raises UsageError or ConfigurationError."""
    if database.driver != "mysql":
        raise ConfigurationError("SQLite has no server to tune.", hint="set database.driver to mysql")
    if sum((options.apply, options.config_file, options.revert)) > 1 or (
        options.measure and (options.config_file or options.revert)
    ):
        raise UsageError(
            "--apply, --config-file and --revert exclude each other, and --measure goes with --apply or alone"
        )
    if options.persist and not options.apply:
        raise UsageError("--persist goes with --apply: it makes what --apply sets outlive a restart")
    profile = Profile(options.profile)
    if profile is not Profile.DURABLE and (options.apply or options.config_file) and not options.accept_data_loss:
        raise UsageError(
            f"the profile {profile} gives up durability. {profile.loss}",
            hint="if that is what you want, add --accept-data-loss; --profile durable loses nothing",
        )
    return profile


class _Tuning:
    """One run on one server."""

    def __init__(
        self, settings: Settings, options: Options, profile: Profile, server: tuning.TunedServer, show: Show
    ) -> None:
        self._settings, self._options, self._server, self._show = settings, options, server, show
        variables = server.variables()
        self._identity = tuning.identity(variables)
        self._file = UndoFile(settings.state_dir, self._identity)
        self._product = Product.of(variables)
        here = machine.is_this_machine(variables.get("hostname"))
        memory = options.memory or (machine.memory() if here and not self._product.service else None)
        connections = settings.pipeline.processes * settings.database.pool_size
        self._situation = Situation(variables, self._product, profile, memory, connections)
        self._problems: list[Problem] = []

    def run(self) -> CommandResult:
        options = self._options
        if options.revert:
            with self._server.alone():
                outcomes = tuning.revert(self._server, self._file)
            return self._result(
                {**self._head(), "reverted": [one._asdict() for one in outcomes], **self._undo()}, outcomes
            )
        advice = tuning.advise(self._situation)
        if options.config_file:
            return self._result({**self._head(), "config_file": self._fragment(advice)})
        if not options.apply and not options.measure:
            return self._result({**self._report(advice), "measured": None})
        with self._server.alone():
            return self._at_work(advice)

    def _at_work(self, advice: Sequence[Advice]) -> CommandResult:
        options, outcomes = self._options, list[Outcome]()
        before = self._measured("before") if options.measure else None
        measured = None if before is None else {"before": before}
        if options.apply:
            self._show("setting the variables")
            outcomes = tuning.apply(
                self._server, self._identity, advice, self._file, persist=options.persist and self._product.can_persist
            )
            if options.persist and not self._product.can_persist:
                message = f"{self._product.label} has no SET PERSIST: the variables are set until it is started anew."
                hint = "run `sensorsync tune-db --config-file` and put what it prints into my.cnf"
                self._problems.append(Problem("no_persist", message, hint))
            if measured is not None and (after := self._measured("after")) is not None:
                measured["after"] = after
        return self._result({**self._report(advice, outcomes), "measured": measured}, outcomes)

    def _measured(self, when: str) -> dict[str, Any] | None:
        """None when it cannot be done, which is a problem."""
        self._show(f"measuring {when}, {self._options.seconds:g} s")
        pipeline = self._settings.pipeline
        try:
            found = tuning.measure(
                self._settings.database,
                connections=min(pipeline.workers, self._settings.database.pool_size),
                batch=pipeline.batch_size,
                seconds=self._options.seconds,
            )
        except (SinkMisconfigured, SinkUnavailable) as error:
            logger.debug("%s", error, exc_info=True)
            hint = "the account needs CREATE, DROP, SELECT, INSERT and UPDATE on the scratch table: see `sensorsync init-db --grants`"
            self._problems.append(Problem("not_measured", f"nothing could be measured: {error}", hint))
            return None
        return found._asdict()

    def _fragment(self, advice: Sequence[Advice]) -> str:
        undo = self._file.read()
        entries = undo.still_set(self._server.started()).entries if undo else {}
        already = frozenset(name for name, entry in entries.items() if not entry.persisted)
        notes = tuning.notes(self._situation)
        return tuning.fragment(advice, self._product, self._situation.profile, notes, already)

    def _head(self) -> dict[str, Any]:
        where = self._settings.database.unix_socket or f"{self._settings.database.host}:{self._settings.database.port}"
        return {
            "database": f"{self._product.label} at {where}",
            "flavor": self._product.flavor,
            "version": ".".join(map(str, self._product.version)),
            "service": self._product.service.name if self._product.service else None,
        }

    def _report(self, advice: Sequence[Advice], outcomes: Sequence[Outcome] = ()) -> dict[str, Any]:
        became = {one.variable: one for one in outcomes}
        profile = self._situation.profile
        return {
            **self._head(),
            "profile": str(profile),
            "loss": profile.loss,
            "memory_bytes": self._situation.memory,
            "applied": self._options.apply,
            "advice": [{**asdict(one), "changes": one.changes, **_became(became.get(one.variable))} for one in advice],
            "notes": tuning.notes(self._situation),
            "untouched": tuning.UNTOUCHED,
            **self._undo(),
        }

    def _undo(self) -> dict[str, str | None]:
        return {"undo_file": str(self._file.path) if self._file.path.exists() else None}

    def _result(self, data: dict[str, Any], outcomes: Sequence[Outcome] = ()) -> CommandResult:
        failed = [one for one in outcomes if one.status is Status.FAILED]
        problems = (*(Problem("not_set", f"{one.variable}: {one.message}") for one in failed), *self._problems)
        return CommandResult(COMMAND, data, ExitCode.INCOMPLETE if problems else ExitCode.OK, problems)


def _became(outcome: Outcome | None) -> dict[str, Any]:
    if outcome is None:
        return {"status": None, "set_to": None, "message": ""}
    return {"status": str(outcome.status), "set_to": outcome.now, "message": outcome.message}
