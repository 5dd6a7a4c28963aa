"""Setting what is advised, and taking it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

from sensorsync.errors import IncompleteError
from sensorsync.storage.mysql.tuning.server import Identity, Refused, TunedServer
from sensorsync.storage.mysql.tuning.situation import Advice
from sensorsync.storage.mysql.tuning.undo import Entry, Undo, UndoFile


class Status(StrEnum):
    """What became of one variable."""

    SET = "set"
    PERSISTED = "persisted"
    RESTORED = "restored"
    UNCHANGED = "unchanged"
    RESTART = "restart"
    """Not dynamic: for the configuration file."""
    BY_HAND = "by_hand"
    """For a person to decide."""
    FAILED = "failed"


class Outcome(NamedTuple):
    """One variable after the attempt."""

    variable: str
    before: str
    now: str
    status: Status
    message: str = ""


def apply(
    server: TunedServer, identity: Identity, advice: Sequence[Advice], file: UndoFile, *, persist: bool
) -> list[Outcome]:
    """Set what is advised and dynamic, one by one; what is refused is one outcome, and the rest goes on.

    The undo file is on disk before the first SET, so that a crash in between can be taken back, too. ConfigurationError when it
    cannot be written: then nothing is set. SinkUnavailable when the server is lost.
    """
    started = server.started()
    undo = (file.read() or Undo(identity, started)).still_set(started)
    persisted = server.persisted() if persist else {}
    chosen = [one for one in advice if one.dynamic and not one.by_hand and _wanted(one, undo, persist=persist)]
    entries = dict(undo.entries)
    for one in chosen:
        known = entries.get(one.variable) or Entry(one.now, one.advised)
        if persist and not known.persisted:
            known = replace(known, persisted=True, persisted_before=persisted.get(one.variable))
        entries[one.variable] = replace(known, after=one.advised)
    if chosen:
        file.write(replace(undo, entries=entries))
    outcomes: list[Outcome] = []
    for one in chosen:
        outcome = _set(server, one, persist=persist)
        outcomes.append(outcome)
        if outcome.status is not Status.FAILED:
            entries[one.variable] = replace(entries[one.variable], after=outcome.now)
        elif one.variable in undo.entries:
            entries[one.variable] = undo.entries[one.variable]
        else:
            del entries[one.variable]
    if chosen:
        file.write(replace(undo, entries=entries))
    outcomes += [_left(one) for one in advice if one.changes and (not one.dynamic or one.by_hand)]
    return outcomes


def revert(server: TunedServer, file: UndoFile) -> list[Outcome]:
    """Put back what `apply` has set, the last first. IncompleteError when there is nothing on this server that could be taken back.

    A variable that somebody else has set since stays as it is: that is a failure, and stays in the undo file.
    """
    undo = file.read()
    if undo is None:
        others = ", ".join(map(str, file.others()))
        raise IncompleteError(
            "tune-db has set nothing on this server that it could take back",
            hint=f"there is undo for other servers: {others}" if others else "nothing is to be done",
        )
    started = server.started()
    valid = undo.still_set(started)
    if not valid.entries:
        raise IncompleteError(
            "the server was started anew since tune-db set its variables; with that SET GLOBAL ended, and nothing is to be taken back",
            hint=f"delete {file.path}, or let the next --apply replace it",
        )
    lost = [
        Outcome(
            name,
            entry.after,
            server.variable(name) or "",
            Status.UNCHANGED,
            "a restart of the server has taken it back",
        )
        for name, entry in undo.entries.items()
        if name not in valid.entries
    ]
    outcomes = [_restore(server, name, entry) for name, entry in reversed(list(valid.entries.items()))]
    failed = {one.variable for one in outcomes if one.status is Status.FAILED}
    file.write(replace(valid, entries={name: entry for name, entry in valid.entries.items() if name in failed}))
    return outcomes + lost


def _wanted(one: Advice, undo: Undo, *, persist: bool) -> bool:
    """What differs; and what we have set already, but not yet persisted."""
    known = undo.entries.get(one.variable)
    return one.changes or (persist and known is not None and not known.persisted)


def _set(server: TunedServer, one: Advice, *, persist: bool) -> Outcome:
    try:
        now = server.set(one.variable, one.advised, persist=persist)
    except Refused as refused:
        return Outcome(one.variable, one.now, one.now, Status.FAILED, str(refused))
    if now == one.now and one.changes:
        return Outcome(one.variable, one.now, now, Status.FAILED, "the server said OK but kept its value")
    message = "" if now == one.advised else f"the server made {now} of it"
    return Outcome(one.variable, one.now, now, Status.PERSISTED if persist else Status.SET, message)


def _left(one: Advice) -> Outcome:
    if one.by_hand:
        return Outcome(one.variable, one.now, one.now, Status.BY_HAND, "for you to decide: see --config-file")
    return Outcome(
        one.variable, one.now, one.now, Status.RESTART, "read at the start of the server only: see --config-file"
    )


def _restore(server: TunedServer, name: str, entry: Entry) -> Outcome:
    current = server.variable(name)
    if current is None or current not in {entry.after, entry.before}:
        message = f"is {current} now, not {entry.after} as tune-db left it: somebody else has set it, so it stays"
        return Outcome(name, current or "", current or "", Status.FAILED, message)
    try:
        if entry.persisted:
            _restore_persisted(server, name, entry)
        now = server.variable(name)
        if now != entry.before:
            now = server.set(name, entry.before)
    except Refused as refused:
        return Outcome(name, current, current, Status.FAILED, str(refused))
    if now != entry.before:
        return Outcome(name, current, now, Status.FAILED, f"the server made {now} of {entry.before}")
    return Outcome(name, current, now, Status.RESTORED if current != now or entry.persisted else Status.UNCHANGED)


def _restore_persisted(server: TunedServer, name: str, entry: Entry) -> None:
    if entry.persisted_before is None:
        server.forget_persisted(name)
    else:
        server.set(name, entry.persisted_before, persist=True)
