"""The `audit` command, which finds the messages of a `stress-publish` run that are stored and those that are missing."""

from __future__ import annotations

from sensorsync.commands.result import CommandResult
from sensorsync.config import Settings
from sensorsync.errors import ExitCode, IncompleteError, Problem, UsageError
from sensorsync.loadtest import AuditReport, is_run_id
from sensorsync.loadtest.audit import audit, audit_problem
from sensorsync.storage.open import database_errors, open_store
from sensorsync.storage.store import RunRowsDiffer, Store

COMMAND = "audit"


def run(settings: Settings, run_id: str, *, clean: bool = False) -> CommandResult:
    """Audit a run, and with `clean` delete its rows afterwards.

    Exit code 5 when a message is missing or a row is corrupt, and when the rows to delete are not those that were read.
    Raises UsageError, DatabaseError.
    """
    if not is_run_id(run_id):
        raise UsageError(
            f"{run_id!r} is no run id.", hint="stress-publish prints it; it looks like r20261124-2015-ab12."
        )
    problems: list[Problem] = []
    deleted = None
    with database_errors():
        store = open_store(settings.database)
        try:
            store.check_schema()
            report = audit(store, settings, run_id)
            if not report.complete:
                problems.append(audit_problem(report))
            if clean:
                deleted = _delete_rows(store, report, problems)
        finally:
            store.close()
    # Redeliveries change no row, so only the subscriber that counted them knows their number.
    data = {**report.as_data(), "redelivered": None, "deleted": deleted}
    return CommandResult(COMMAND, data, ExitCode.INCOMPLETE if problems else ExitCode.OK, tuple(problems))


def _delete_rows(store: Store, report: AuditReport, problems: list[Problem]) -> int:
    """Delete the rows that the report has read and return their number; 0 and a problem when there are others."""
    try:
        return store.delete_run_rows(report.run, report.rows)
    except RunRowsDiffer as error:
        sentence = (
            f"nothing was deleted: the audit has read {report.rows:,} rows of run {report.run}, and where they would be"
            f" deleted there are {error.found:,}; this looks like a replica, unless rows are still being stored"
            " or the id of another run begins with this one"
        )
        hint = (
            "let database.host name the server that `subscribe` writes to, wait until it has stored all, and run"
            f" `sensorsync audit {report.run} --clean` again"
        )
        problems.append(Problem(IncompleteError.code, sentence, hint))
        return 0
