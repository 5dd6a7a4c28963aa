"""SQLite files that several threads and processes share, with durable commits."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final, Literal

BUSY_SECONDS: Final = 5.0
"""Seconds that a writer waits for the transaction of another. SQLite has one writer at a time."""
_POLL_SECONDS: Final = 0.01


def connect(path: Path, mode: Literal["ro", "rw", "rwc"]) -> sqlite3.Connection:
    """Open the file; only mode `rwc` creates it. Raises sqlite3.Error.

    Transactions are opened by hand (BEGIN IMMEDIATE). Any thread may use the connection, one at a time, because the
    thread that stops the pipeline closes the connections of the writers.
    """
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def make_durable(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log with an fsync at every commit (in WAL mode `NORMAL` has none). Raises sqlite3.Error."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # When two connections switch a new file to WAL at once, SQLite returns SQLITE_BUSY to one of them without waiting.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(_POLL_SECONDS)
    connection.execute("PRAGMA synchronous = FULL")
