"""Classification of SQLite's result codes (https://www.sqlite.org/rescode.html)."""

from __future__ import annotations

import sqlite3
from typing import Final

from sensorsync.pipeline.contract import BatchRejected, SinkMisconfigured, SinkUnavailable
from sensorsync.storage.store import INIT_HINT

_REJECTED_CODES: Final = frozenset(
    {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE}
)
_MISCONFIGURED_HINTS: Final = {
    sqlite3.SQLITE_ERROR: INIT_HINT,
    sqlite3.SQLITE_CORRUPT: "restore the file from a backup",
    sqlite3.SQLITE_NOTADB: "check database.path: that file is no SQLite database",
    sqlite3.SQLITE_READONLY: "give this user the right to write the file and its folder",
    sqlite3.SQLITE_PERM: "give this user the right to write the file and its folder",
    sqlite3.SQLITE_AUTH: "give this user the right to write the file and its folder",
    sqlite3.SQLITE_CANTOPEN: f"check database.path and the rights of its folder, or {INIT_HINT}",
}


def sink_error(error: Exception, path: str) -> SinkUnavailable | BatchRejected | SinkMisconfigured:
    """Return the exception for the batch by the result code of `error`. An error has no code where Python could not bind a value."""
    code = getattr(error, "sqlite_errorcode", None)
    if not isinstance(code, int):
        return BatchRejected(f"a value that SQLite cannot take: {error}")
    primary = code & 0xFF  # the upper bits are details: SQLITE_BUSY_SNAPSHOT is a SQLITE_BUSY
    message = f"{path}: {error}"
    if primary in _REJECTED_CODES:
        return BatchRejected(message, errno=code)
    if primary in _MISCONFIGURED_HINTS:
        return SinkMisconfigured(message, errno=code, hint=_MISCONFIGURED_HINTS[primary])
    # BUSY, LOCKED, FULL, IOERR, NOMEM, INTERRUPT, PROTOCOL and codes of later versions are not caused by the rows.
    return SinkUnavailable(message, errno=code)
