"""The files that a connection to a database file has open, compared with those that have their names now.

Somebody can delete or rename the database file, or its write-ahead log, while it is open. What is committed then goes into a file
without a name, and SQLite reports success.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import NamedTuple

Identity = tuple[int, int] | None
"""Device and inode; the inode alone is not enough where something is mounted over the folder. None: there is no such file."""


class OpenFiles(NamedTuple):
    """The identities of the database file and of the two files beside it."""

    database: Identity
    log: Identity
    shared_memory: Identity

    @classmethod
    def at(cls, path: Path) -> OpenFiles:
        """Return the files that have the names now. A database file that was emptied in its place counts as none."""
        return cls(
            _identity(path, empty_is_none=True), _identity(log_of(path)), _identity(path.with_name(f"{path.name}-shm"))
        )


def log_of(path: Path) -> Path:
    """Return the path of the write-ahead log."""
    return path.with_name(f"{path.name}-wal")


def database_identity(path: Path) -> Identity:
    """Return the identity of the file that has the name now."""
    return _identity(path)


def has_log(connection: sqlite3.Connection) -> bool:
    """Return True when commits go into a write-ahead log. Some file systems allow none."""
    return bool(connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal")


def save_log(connection: sqlite3.Connection, path: Path, opened: OpenFiles) -> None:
    """Copy what was committed into the write-ahead log into the database file, where that is safe.

    Without it, rows that are acknowledged vanish with a log that has no name any more. It is not safe when the database file is
    still the same and another log has been started for it.
    """
    now = OpenFiles.at(path)
    if now.database != opened.database or now.log is None:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _identity(path: Path, *, empty_is_none: bool = False) -> Identity:
    try:
        found = path.stat()
    except OSError:
        return None
    return None if empty_is_none and not found.st_size else (found.st_dev, found.st_ino)
