"""`init-db`: the database and its tables, created, brought up to date, kept in order, compared or printed; and the accounts for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import timedelta

from sensorsync.commands.result import CommandResult
from sensorsync.config import Settings
from sensorsync.errors import ConfigurationError, ExitCode, InterruptedByUser, Problem, UsageError
from sensorsync.storage import open as drivers
from sensorsync.storage.store import MaintenanceReport, SchemaState, Store
from sensorsync.storage.target_table import TARGET_TABLE_HINT

COMMAND = "init-db"

Confirm = Callable[[str], bool]
"""Told what an answer of yes costs."""

_DAY_SECONDS = 86_400
_EPOCH_WARNING = (
    "reading.missing_ts is epoch, so readings without a time are filed under 1970: "
    "--retain removes all of them, old or new."
)


@dataclass(frozen=True, slots=True)
class MaintenanceOptions:
    """What is to be done about old readings; by default nothing."""

    partitions: bool = False
    """Make partitions by day, if there are none, and add those of the days to come."""
    retain: timedelta | None = None
    """Readings whose `ts` is older are removed. None: all are kept."""

    @classmethod
    def from_flags(cls, settings: Settings, *, partitions: bool, retain: float | None) -> MaintenanceOptions:
        """From the command line; `retain` in seconds. UsageError for less than a day, ConfigurationError for partitions of SQLite."""
        if partitions and settings.database.driver == "sqlite":
            raise ConfigurationError(
                "SQLite has no partitions.", hint="use --retain alone, which deletes, or set database.driver to mysql"
            )
        if retain is None:
            return cls(partitions)
        if not _DAY_SECONDS <= retain <= 36_500 * _DAY_SECONDS:
            raise UsageError("--retain: write 1d or more, such as 90d (36500d at most)")
        return cls(partitions, timedelta(seconds=retain))

    @property
    def requested(self) -> bool:
        """Whether anything is to be done."""
        return self.partitions or self.retain is not None

    def maintain(self, store: Store, *, dry_run: bool) -> MaintenanceReport:
        """See `store.Store.upkeep`."""
        return store.maintain(self.retain, partitions=self.partitions, dry_run=dry_run)


NO_MAINTENANCE = MaintenanceOptions()


def run(
    settings: Settings, maintenance: MaintenanceOptions = NO_MAINTENANCE, confirm: Confirm = lambda _: True
) -> CommandResult:
    """Create the database where it is missing, apply the migrations that are pending, `keep` the table. Again: nothing is left to do.

    `confirm` is asked before what takes long or loses more than one might think. InterruptedByUser when it says no; DatabaseError when
    the server is not to be reached or refuses; what `store.Store.upkeep` raises.
    """
    upkeep = None
    with drivers.database_errors(), closing(drivers.open_store(settings.database, settings.target_tables)) as store:
        done = store.migrate()
        warnings = store.durability_warnings()
        if maintenance.requested and done.state.ready:
            for cost in _confirmation_messages(settings, maintenance, maintenance.maintain(store, dry_run=True)):
                if not confirm(cost):
                    raise InterruptedByUser("the partitions were left as they are, and no reading was removed")
            upkeep = maintenance.maintain(store, dry_run=False)
    data = {
        "database": store.label,
        "created": done.database_created,
        "applied": list(done.newly_applied),
        "differences": [*done.state.differences, *done.state.target_table_differences],
        "warnings": warnings,
        "ready": done.state.ready,
        "upkeep": asdict(upkeep) if upkeep else None,
    }
    return _result(data, done.state)


def check(settings: Settings, maintenance: MaintenanceOptions = NO_MAINTENANCE) -> CommandResult:
    """Say what `run` would do and where the tables differ from what this version writes to; change nothing."""
    upkeep = None
    with drivers.database_errors(), closing(drivers.open_store(settings.database, settings.target_tables)) as store:
        state = store.schema_state()
        warnings = store.durability_warnings() if state.database_exists else []
        if maintenance.requested and state.ready:
            upkeep = maintenance.maintain(store, dry_run=True)
            warnings += [
                f"Asks first, or wants --yes: {cost.rstrip('.')}"
                for cost in _confirmation_messages(settings, maintenance, upkeep)
            ]
    data = {
        "database": store.label,
        "exists": state.database_exists,
        "ready": state.ready,
        "applied": list(state.applied_migrations),
        "pending": list(state.pending_migrations),
        "differences": [*state.differences, *state.target_table_differences],
        "warnings": warnings,
        "upkeep": asdict(upkeep) if upkeep else None,
    }
    if upkeep and upkeep.change_count:
        problem = Problem("upkeep", "The table is to be kept in order.", "Run the same without --check.")
        return CommandResult(COMMAND, data, ExitCode.INCOMPLETE, (problem,))
    return _result(data, state)


def sql(settings: Settings) -> CommandResult:
    """The SQL that `run` would send to an empty server, for somebody who applies it by hand."""
    return CommandResult(COMMAND, {"sql": drivers.schema_sql(settings.database)})


def grants(settings: Settings, *, flavor: str | None = None, host: str = "%") -> CommandResult:
    """The statements that make the accounts of our commands, for an administrator; nothing is sent to the server.

    `flavor`: `mysql` or `mariadb`; None: the server is asked, DatabaseError when it does not answer. UsageError for a `host` that
    is none, ConfigurationError for SQLite.
    """
    with drivers.database_errors():
        mariadb, accounts = drivers.accounts(
            settings.database,
            settings.target_tables,
            mariadb=None if flavor is None else flavor == "mariadb",
            host=host,
        )
    data = {
        "database": settings.database.name,
        "flavor": "mariadb" if mariadb else "mysql",
        "host": host,
        "accounts": [asdict(account) for account in accounts],
    }
    return CommandResult(COMMAND, data)


def _confirmation_messages(settings: Settings, maintenance: MaintenanceOptions, report: MaintenanceReport) -> list[str]:
    """Sentences: why a person should agree."""
    said = [report.costs] if report.costs else []
    if maintenance.retain is not None and settings.reading.missing_ts == "epoch":
        said.append(_EPOCH_WARNING)
    return said


def _result(data: dict[str, object], state: SchemaState) -> CommandResult:
    if state.ready:
        return CommandResult(COMMAND, data)
    return CommandResult(COMMAND, data, ExitCode.INCOMPLETE, (_schema_problem(state),))


def _schema_problem(state: SchemaState) -> Problem:
    if not state.database_exists:
        return Problem("schema", "The database does not exist.", "Run `sensorsync init-db`.")
    if state.pending_migrations:
        return Problem(
            "schema",
            f"{len(state.pending_migrations)} migrations are pending: {', '.join(state.pending_migrations)}.",
            "Run `sensorsync init-db`.",
        )
    if state.differences:
        return Problem(
            "schema",
            f"The table is not what sensorsync writes to: {'; '.join(state.differences)}.",
            "Alter the table by hand, or rename it and run `sensorsync init-db` for a new one.",
        )
    first, *more = state.target_table_differences
    return Problem(
        "schema",
        f"A table of yours is not what its mapping writes to: {first}{f' (and {len(more)} more)' if more else ''}.",
        f"{TARGET_TABLE_HINT[0].upper()}{TARGET_TABLE_HINT[1:]}.",
    )
