"""The `tune-db` command, which advises on the variables of the database server, and sets, measures and reverts them."""

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
from sensorsync.storage.mysql.tuning import (
    Advice,
    Product,
    Profile,
    TuningInput,
    UndoFile,
    VariableResult,
    VariableStatus,
    host_memory,
)
from sensorsync.storage.open import database_errors

COMMAND = "tune-db"
logger = logging.getLogger(__name__)

StageCallback = Callable[[str], None]
"""A function that is called with the step that begins."""


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """The actions to take; by default only a report."""

    profile: str = "durable"
    memory: int | None = None
    """Memory of the server's host in bytes. None for that of this host, if the server runs on it."""
    apply: bool = False
    persist: bool = False
    accept_data_loss: bool = False
    config_file: bool = False
    revert: bool = False
    measure: bool = False
    seconds: float = 5.0
    """Length of one measurement in seconds."""


def run(settings: Settings, options: TuneOptions, on_stage: StageCallback = lambda _: None) -> CommandResult:
    """Report on the server, and set, measure or revert as the options require.

    Exit code 5 when a variable could not be set or restored, or nothing could be measured. Each of these is a problem
    of its own, and the rest continues. Raises UsageError for options that exclude each other, DatabaseError when the
    server cannot be reached, IncompleteError when there is nothing to revert, AlreadyRunningError when another tune-db
    is running on the server.
    """
    profile = _check_options(settings.database, options)
    with database_errors(), tuning.open_tuned_server(settings.database) as server:
        return _Tuning(settings, options, profile, server, on_stage).run()


def _check_options(database: DatabaseSettings, options: TuneOptions) -> Profile:
    """Return the profile. Raises UsageError or ConfigurationError for options that do not fit."""
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
            f"the profile {profile} gives up durability. {profile.loss_description}",
            hint="if that is what you want, add --accept-data-loss; --profile durable loses nothing",
        )
    return profile


class _Tuning:
    """One run on one server."""

    def __init__(
        self,
        settings: Settings,
        options: TuneOptions,
        profile: Profile,
        server: tuning.TunedServer,
        on_stage: StageCallback,
    ) -> None:
        self._settings, self._options, self._server, self._on_stage = settings, options, server, on_stage
        variables = server.read_variables()
        self._identity = tuning.server_identity(variables)
        self._undo_file = UndoFile(settings.state_dir, self._identity)
        self._product = Product.from_variables(variables)
        here = host_memory.is_local_host(variables.get("hostname"))
        memory = options.memory or (host_memory.total_memory() if here and not self._product.service else None)
        connections = settings.pipeline.processes * settings.database.pool_size
        self._tuning_input = TuningInput(variables, self._product, profile, memory, connections)
        self._problems: list[Problem] = []

    def run(self) -> CommandResult:
        options = self._options
        if options.revert:
            with self._server.tuning_lock():
                outcomes = tuning.revert(self._server, self._undo_file)
            return self._result(
                {**self._server_as_json(), "reverted": [one._asdict() for one in outcomes], **self._undo_as_json()},
                outcomes,
            )
        advice = tuning.advise(self._tuning_input)
        if options.config_file:
            return self._result({**self._server_as_json(), "config_file": self._my_cnf_snippet(advice)})
        if not options.apply and not options.measure:
            return self._result({**self._report_as_json(advice), "measured": None})
        with self._server.tuning_lock():
            return self._measure_and_apply(advice)

    def _measure_and_apply(self, advice: Sequence[Advice]) -> CommandResult:
        options, outcomes = self._options, list[VariableResult]()
        before = self._measure("before") if options.measure else None
        measured = None if before is None else {"before": before}
        if options.apply:
            self._on_stage("setting the variables")
            outcomes = tuning.apply(
                self._server,
                self._identity,
                advice,
                self._undo_file,
                persist=options.persist and self._product.supports_persist,
            )
            if options.persist and not self._product.supports_persist:
                message = f"{self._product.label} has no SET PERSIST: the variables are set until it is started anew."
                hint = "run `sensorsync tune-db --config-file` and put what it prints into my.cnf"
                self._problems.append(Problem("no_persist", message, hint))
            if measured is not None and (after := self._measure("after")) is not None:
                measured["after"] = after
        return self._result({**self._report_as_json(advice, outcomes), "measured": measured}, outcomes)

    def _measure(self, phase: str) -> dict[str, Any] | None:
        """Return the measurement, or None when it cannot be done, which is added as a problem."""
        self._on_stage(f"measuring {phase}, {self._options.seconds:g} s")
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

    def _my_cnf_snippet(self, advice: Sequence[Advice]) -> str:
        undo = self._undo_file.read()
        entries = undo.still_effective(self._server.start_time()).entries if undo else {}
        already = frozenset(name for name, entry in entries.items() if not entry.persisted)
        notes = tuning.notes(self._tuning_input)
        return tuning.my_cnf_snippet(advice, self._product, self._tuning_input.profile, notes, already)

    def _server_as_json(self) -> dict[str, Any]:
        where = self._settings.database.unix_socket or f"{self._settings.database.host}:{self._settings.database.port}"
        return {
            "database": f"{self._product.label} at {where}",
            "flavor": self._product.flavor,
            "version": ".".join(map(str, self._product.version)),
            "service": self._product.service.name if self._product.service else None,
        }

    def _report_as_json(self, advice: Sequence[Advice], outcomes: Sequence[VariableResult] = ()) -> dict[str, Any]:
        became = {one.variable: one for one in outcomes}
        profile = self._tuning_input.profile
        return {
            **self._server_as_json(),
            "profile": str(profile),
            "loss": profile.loss_description,
            "memory_bytes": self._tuning_input.memory,
            "applied": self._options.apply,
            "advice": [
                {**asdict(one), "changes": one.differs, **_outcome_as_json(became.get(one.variable))} for one in advice
            ],
            "notes": tuning.notes(self._tuning_input),
            "untouched": tuning.UNTOUCHED_NOTE,
            **self._undo_as_json(),
        }

    def _undo_as_json(self) -> dict[str, str | None]:
        return {"undo_file": str(self._undo_file.path) if self._undo_file.path.exists() else None}

    def _result(self, data: dict[str, Any], outcomes: Sequence[VariableResult] = ()) -> CommandResult:
        failed = [one for one in outcomes if one.status is VariableStatus.FAILED]
        problems = (*(Problem("not_set", f"{one.variable}: {one.message}") for one in failed), *self._problems)
        return CommandResult(COMMAND, data, ExitCode.INCOMPLETE if problems else ExitCode.OK, problems)


def _outcome_as_json(outcome: VariableResult | None) -> dict[str, Any]:
    if outcome is None:
        return {"status": None, "set_to": None, "message": ""}
    return {"status": str(outcome.status), "set_to": outcome.now, "message": outcome.message}
