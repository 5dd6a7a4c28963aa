"""Setting the advised values, and restoring the previous ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

from sensorsync.errors import IncompleteError
from sensorsync.storage.mysql.tuning.server import ServerIdentity, SetVariableError, TunedServer
from sensorsync.storage.mysql.tuning.tuning_input import Advice
from sensorsync.storage.mysql.tuning.undo import UndoEntry, UndoFile, UndoState


class VariableStatus(StrEnum):
    """The result for one variable."""

    SET = "set"
    PERSISTED = "persisted"
    RESTORED = "restored"
    UNCHANGED = "unchanged"
    RESTART = "restart"
    """The variable is not dynamic and belongs in the configuration file."""
    BY_HAND = "by_hand"
    """A person has to decide about the value."""
    FAILED = "failed"


class VariableResult(NamedTuple):
    """One variable after the attempt to change it."""

    variable: str
    before: str
    now: str
    status: VariableStatus
    message: str = ""


def apply(
    server: TunedServer, identity: ServerIdentity, advice: Sequence[Advice], file: UndoFile, *, persist: bool
) -> list[VariableResult]:
    """Set the advised dynamic variables one by one. A variable that the server refuses gets a FAILED result, and the others follow.

    The undo file is on disk before the first SET, so that changes can also be undone after a crash in between. Raises
    ConfigurationError when that file cannot be written; no variable is set then. Raises SinkUnavailable when the
    connection is lost.
    """
    started = server.start_time()
    undo = (file.read() or UndoState(identity, started)).still_effective(started)
    persisted = server.read_persisted_variables() if persist else {}
    chosen = [one for one in advice if one.dynamic and not one.by_hand and _needs_setting(one, undo, persist=persist)]
    entries = dict(undo.entries)
    for one in chosen:
        known = entries.get(one.variable) or UndoEntry(one.now, one.advised)
        if persist and not known.persisted:
            known = replace(known, persisted=True, persisted_before=persisted.get(one.variable))
        entries[one.variable] = replace(known, after=one.advised)
    if chosen:
        file.write(replace(undo, entries=entries))
    outcomes: list[VariableResult] = []
    for one in chosen:
        outcome = _set_variable(server, one, persist=persist)
        outcomes.append(outcome)
        if outcome.status is not VariableStatus.FAILED:
            entries[one.variable] = replace(entries[one.variable], after=outcome.now)
        elif one.variable in undo.entries:
            entries[one.variable] = undo.entries[one.variable]
        else:
            del entries[one.variable]
    if chosen:
        file.write(replace(undo, entries=entries))
    outcomes += [_not_applied(one) for one in advice if one.differs and (not one.dynamic or one.by_hand)]
    return outcomes


def revert(server: TunedServer, file: UndoFile) -> list[VariableResult]:
    """Restore the values before `apply`, the last change first.

    Raises IncompleteError when nothing can be restored on this server. A variable that was set by another program since
    then stays as it is. This is a FAILED result, and the variable stays in the undo file.
    """
    undo = file.read()
    if undo is None:
        others = ", ".join(map(str, file.other_files()))
        raise IncompleteError(
            "tune-db has set nothing on this server that it could take back",
            hint=f"there is undo for other servers: {others}" if others else "nothing is to be done",
        )
    started = server.start_time()
    valid = undo.still_effective(started)
    if not valid.entries:
        raise IncompleteError(
            "the server was started anew since tune-db set its variables; with that SET GLOBAL ended, and nothing is to be taken back",
            hint=f"delete {file.path}, or let the next --apply replace it",
        )
    lost = [
        VariableResult(
            name,
            entry.after,
            server.read_variable(name) or "",
            VariableStatus.UNCHANGED,
            "a restart of the server has taken it back",
        )
        for name, entry in undo.entries.items()
        if name not in valid.entries
    ]
    outcomes = [_restore_variable(server, name, entry) for name, entry in reversed(list(valid.entries.items()))]
    failed = {one.variable for one in outcomes if one.status is VariableStatus.FAILED}
    file.write(replace(valid, entries={name: entry for name, entry in valid.entries.items() if name in failed}))
    return outcomes + lost


def _needs_setting(one: Advice, undo: UndoState, *, persist: bool) -> bool:
    """Return True for a value that differs, and for a value that was set but is not persisted yet."""
    known = undo.entries.get(one.variable)
    return one.differs or (persist and known is not None and not known.persisted)


def _set_variable(server: TunedServer, one: Advice, *, persist: bool) -> VariableResult:
    try:
        now = server.set_variable(one.variable, one.advised, persist=persist)
    except SetVariableError as error:
        return VariableResult(one.variable, one.now, one.now, VariableStatus.FAILED, str(error))
    if now == one.now and one.differs:
        return VariableResult(
            one.variable, one.now, now, VariableStatus.FAILED, "the server said OK but kept its value"
        )
    message = "" if now == one.advised else f"the server made {now} of it"
    return VariableResult(
        one.variable, one.now, now, VariableStatus.PERSISTED if persist else VariableStatus.SET, message
    )


def _not_applied(one: Advice) -> VariableResult:
    if one.by_hand:
        return VariableResult(
            one.variable, one.now, one.now, VariableStatus.BY_HAND, "for you to decide: see --config-file"
        )
    return VariableResult(
        one.variable,
        one.now,
        one.now,
        VariableStatus.RESTART,
        "read at the start of the server only: see --config-file",
    )


def _restore_variable(server: TunedServer, name: str, entry: UndoEntry) -> VariableResult:
    current = server.read_variable(name)
    if current is None or current not in {entry.after, entry.before}:
        message = f"is {current} now, not {entry.after} as tune-db left it: somebody else has set it, so it stays"
        return VariableResult(name, current or "", current or "", VariableStatus.FAILED, message)
    try:
        if entry.persisted:
            _restore_persisted(server, name, entry)
        now = server.read_variable(name)
        if now != entry.before:
            now = server.set_variable(name, entry.before)
    except SetVariableError as error:
        return VariableResult(name, current, current, VariableStatus.FAILED, str(error))
    if now != entry.before:
        return VariableResult(name, current, now, VariableStatus.FAILED, f"the server made {now} of {entry.before}")
    return VariableResult(
        name, current, now, VariableStatus.RESTORED if current != now or entry.persisted else VariableStatus.UNCHANGED
    )


def _restore_persisted(server: TunedServer, name: str, entry: UndoEntry) -> None:
    if entry.persisted_before is None:
        server.reset_persisted(name)
    else:
        server.set_variable(name, entry.persisted_before, persist=True)
