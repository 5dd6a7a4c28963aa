"""Changes of letters that were chosen before: each statement repeats the choice.

Letters are chosen in one transaction and changed in later ones. A message that is parked again in between is acknowledged as known, so
its letter must be there afterwards.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from sensorsync.deadletters.criteria import Criteria
from sensorsync.deadletters.letters import LetterVersion, StoredLetter, append_history, escape_surrogates

Change = Callable[[sqlite3.Connection, Iterable[LetterVersion], Criteria], int]
"""A change of those of the letters that are still the same version and still meet the criteria. It returns their number."""

_UPDATE_REJECTED: Final = """
    UPDATE letters SET attempts = ?, state = ?, next_retry_at = ?, refused_at = ?, reason = ?, errno = ?, message = ?, history = ?
    WHERE id = ? AND seen = ? AND state = 'parked' AND attempts = ?"""


class ReplayRejection(NamedTuple):
    """The result of a replay for a letter that was rejected again."""

    letter: StoredLetter
    reason: str
    errno: int | None
    message: str
    state: str
    """`parked`, or `quarantined` after the last attempt."""
    next_retry_at: float


def delete(connection: sqlite3.Connection, letters: Iterable[LetterVersion], criteria: Criteria) -> int:
    """Delete letters and return their number."""
    return _execute(connection, "DELETE FROM letters", letters, criteria)


def release(connection: sqlite3.Connection, letters: Iterable[LetterVersion], criteria: Criteria) -> int:
    """Reset the attempts and the state of letters and return their number."""
    reset = "UPDATE letters SET state = 'parked', attempts = 0, next_retry_at = 0"
    return _execute(connection, reset, letters, criteria)


def finish_replay(
    connection: sqlite3.Connection, stored: Iterable[LetterVersion], rejected: Sequence[ReplayRejection], now: float
) -> None:
    """Delete the stored letters, and record the attempt of each rejected one."""
    delete(connection, stored, Criteria(state="parked"))
    rows = [
        (
            rejection.letter.attempts + 1,
            rejection.state,
            rejection.next_retry_at,
            now,
            rejection.reason,
            rejection.errno,
            escape_surrogates(rejection.message),
            append_history(json.dumps(rejection.letter.history), rejection.letter.latest_entry),
            *rejection.letter.version,
            rejection.letter.attempts,
        )
        for rejection in rejected
    ]
    connection.executemany(_UPDATE_REJECTED, rows)


def _execute(
    connection: sqlite3.Connection, statement: str, letters: Iterable[LetterVersion], criteria: Criteria
) -> int:
    where, parameters = criteria.sql_condition()
    rows = [(*letter, *parameters) for letter in letters]
    return connection.executemany(f"{statement} WHERE id = ? AND seen = ? AND {where}", rows).rowcount if rows else 0
