"""The `init-db` command, which creates, migrates, maintains, compares or prints the database and its tables.

It also prints the statements for the accounts.
"""

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
"""A function that asks for confirmation. Its argument states the cost of a yes."""

_DAY_SECONDS = 86_400
_EPOCH_WARNING = (
    "reading.missing_ts is epoch, so readings without a time are filed under 1970: "
    "--retain removes all of them, old or new."
)


@dataclass(frozen=True, slots=True)
class MaintenanceOptions:
    """The maintenance of old readings; by default there is none."""

    partitions: bool = False
    """True to create partitions by day, if there are none, and to add those of the days to come."""
    retain: timedelta | None = None
    """Age of `ts` from which on readings are removed. None removes none."""

    @classmethod
    def from_flags(cls, settings: Settings, *, partitions: bool, retain: float | None) -> MaintenanceOptions:
        """Return the options for the flags of the command line; `retain` is in seconds.

        Raises UsageError for less than a day, ConfigurationError for partitions of SQLite.
        """
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
        """True when there is any maintenance to do."""
        return self.partitions or self.retain is not None

    def maintain(self, store: Store, *, dry_run: bool) -> MaintenanceReport:
        """Maintain the table, see `Store.maintain`."""
        return store.maintain(self.retain, partitions=self.partitions, dry_run=dry_run)


NO_MAINTENANCE = MaintenanceOptions()


def run(
    settings: Settings, maintenance: MaintenanceOptions = NO_MAINTENANCE, confirm: Confirm = lambda _: True
) -> CommandResult:
    """Create the database where it is missing, apply the pending migrations and maintain the table.

    A second run finds nothing to do. `confirm` is called before a change that takes long or removes more than one might
    expect. Raises InterruptedByUser when it returns False, DatabaseError when the server cannot be reached or refuses,
    and the errors of `Store.maintain`.
    """
    report = None
    with drivers.database_errors(), closing(drivers.open_store(settings.database, settings.target_tables)) as store:
        done = store.migrate()
        warnings = store.durability_warnings()
        if maintenance.requested and done.state.ready:
            for cost in _confirmation_messages(settings, maintenance, maintenance.maintain(store, dry_run=True)):
                if not confirm(cost):
                    raise InterruptedByUser("the partitions were left as they are, and no reading was removed")
            report = maintenance.maintain(store, dry_run=False)
    data = {
        "database": store.label,
        "created": done.database_created,
        "applied": list(done.newly_applied),
        "differences": [*done.state.differences, *done.state.target_table_differences],
        "warnings": warnings,
        "ready": done.state.ready,
        "upkeep": asdict(report) if report else None,
    }
    return _result(data, done.state)


def check(settings: Settings, maintenance: MaintenanceOptions = NO_MAINTENANCE) -> CommandResult:
    """Report what `run` would do and where the tables differ from what this version writes to; change nothing."""
    report = None
    with drivers.database_errors(), closing(drivers.open_store(settings.database, settings.target_tables)) as store:
        state = store.schema_state()
        warnings = store.durability_warnings() if state.database_exists else []
        if maintenance.requested and state.ready:
            report = maintenance.maintain(store, dry_run=True)
            warnings += [
                f"Asks first, or wants --yes: {cost.rstrip('.')}"
                for cost in _confirmation_messages(settings, maintenance, report)
            ]
    data = {
        "database": store.label,
        "exists": state.database_exists,
        "ready": state.ready,
        "applied": list(state.applied_migrations),
        "pending": list(state.pending_migrations),
        "differences": [*state.differences, *state.target_table_differences],
        "warnings": warnings,
        "upkeep": asdict(report) if report else None,
    }
    if report and report.change_count:
        problem = Problem("upkeep", "The table is to be kept in order.", "Run the same without --check.")
        return CommandResult(COMMAND, data, ExitCode.INCOMPLETE, (problem,))
    return _result(data, state)


def sql(settings: Settings) -> CommandResult:
    """Return the SQL that `run` would send to an empty server, for an administrator who applies it by hand."""
    return CommandResult(COMMAND, {"sql": drivers.schema_sql(settings.database)})


def grants(settings: Settings, *, flavor: str | None = None, host: str = "%") -> CommandResult:
    """Return the statements that create the accounts of our commands, for an administrator. The server is not changed.

    `flavor` is `mysql` or `mariadb`. With None the server is asked for it, and DatabaseError is raised when it does not
    answer. Raises UsageError for an invalid `host`, ConfigurationError for SQLite.
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
    """Return the reasons to ask for a confirmation, as sentences."""
    reasons = [report.costs] if report.costs else []
    if maintenance.retain is not None and settings.reading.missing_ts == "epoch":
        reasons.append(_EPOCH_WARNING)
    return reasons


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
