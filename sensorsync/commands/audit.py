"""The `audit` command, which finds the messages of a `stress-publish` run that are stored and those that are missing."""

from __future__ import annotations

from sensorsync.commands.result import CommandResult
from sensorsync.config import Settings
from sensorsync.errors import ExitCode, UsageError
from sensorsync.loadtest import is_run_id
from sensorsync.loadtest.audit import audit, audit_problem
from sensorsync.storage.open import database_errors, open_store

COMMAND = "audit"


def run(settings: Settings, run_id: str, *, clean: bool = False) -> CommandResult:
    """Audit a run, and with `clean` delete its rows afterwards.

    Exit code 5 when a message is missing or a row is corrupt. Raises UsageError, DatabaseError.
    """
    if not is_run_id(run_id):
        raise UsageError(
            f"{run_id!r} is no run id.", hint="stress-publish prints it; it looks like r20261124-2015-ab12."
        )
    with database_errors():
        store = open_store(settings.database)
        try:
            store.check_schema()
            report = audit(store, settings, run_id)
            deleted = store.delete_run_rows(run_id) if clean else None
        finally:
            store.close()
    # Redeliveries change no row, so only the subscriber that counted them knows their number.
    data = {**report.as_data(), "redelivered": None, "deleted": deleted}
    if report.complete:
        return CommandResult(COMMAND, data)
    return CommandResult(COMMAND, data, ExitCode.INCOMPLETE, (audit_problem(report),))
