"""`init-db`: the database and its tables, created, brought up to date, compared or printed."""

from __future__ import annotations

from sensorsync import drivers
from sensorsync.config import Settings
from sensorsync.errors import ExitCode
from sensorsync.result import CommandResult, Problem
from sensorsync.store import SchemaState

COMMAND = "init-db"


def run(settings: Settings) -> CommandResult:
    """Create the database where it is missing and apply the migrations that are pending. Again: nothing is left to do.

    DatabaseError when the server is not to be reached or refuses.
    """
    with drivers.database_errors():
        store = drivers.open_store(settings.database)
        try:
            done = store.migrate()
            warnings = store.durability_warnings()
        finally:
            store.close()
    data = {
        "database": store.label,
        "created": done.database_created,
        "applied": list(done.applied_now),
        "differences": list(done.state.differences),
        "warnings": warnings,
    }
    return _result(data, done.state)


def check(settings: Settings) -> CommandResult:
    """Say what `run` would do and where the tables differ from what this version writes to; change nothing."""
    with drivers.database_errors():
        store = drivers.open_store(settings.database)
        try:
            state = store.schema_state()
            warnings = store.durability_warnings() if state.database_exists else []
        finally:
            store.close()
    data = {
        "database": store.label,
        "exists": state.database_exists,
        "ready": state.ready,
        "applied": list(state.applied),
        "pending": list(state.pending),
        "differences": list(state.differences),
        "warnings": warnings,
    }
    return _result(data, state)


def sql(settings: Settings) -> CommandResult:
    """The SQL that `run` would send to an empty server, for somebody who applies it by hand."""
    return CommandResult(COMMAND, {"sql": drivers.schema_sql(settings.database)})


def _result(data: dict[str, object], state: SchemaState) -> CommandResult:
    if state.ready:
        return CommandResult(COMMAND, data)
    return CommandResult(COMMAND, data, ExitCode.INCOMPLETE, (_problem(state),))


def _problem(state: SchemaState) -> Problem:
    if not state.database_exists:
        return Problem("schema", "The database does not exist.", "Run `sensorsync init-db`.")
    if state.pending:
        return Problem(
            "schema",
            f"{len(state.pending)} migrations are pending: {', '.join(state.pending)}.",
            "Run `sensorsync init-db`.",
        )
    return Problem(
        "schema",
        f"The table is not what sensorsync writes to: {'; '.join(state.differences)}.",
        "Alter the table by hand, or rename it and run `sensorsync init-db` for a new one.",
    )
