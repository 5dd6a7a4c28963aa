"""Connections to the database file, and what is common to all of them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sensorsync.sqlite.faults import outcome

_BUSY_SECONDS: Final = 5.0
"""How long one writer waits for the other's transaction; SQLite has one writer at a time."""


def connect(path: Path, *, create: bool = False, read_only: bool = False) -> sqlite3.Connection:
    """Open the file, durable: WAL, and every commit is fsynced. Raises sqlite3.Error; a missing file is one unless `create`."""
    mode = "ro" if read_only else "rwc" if create else "rw"
    # A writer's connection is made in its thread and closed by whoever ends the pipeline, after it.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def connected(path: Path, *, create: bool = False, read_only: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection for as long as the block lasts; errors come out as the contract's outcomes."""
    try:
        with contextlib.closing(connect(path, create=create, read_only=read_only)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise outcome(error, str(path)) from error
