"""SQLite files that several threads and processes share, and that hold on to what was committed."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final, Literal

BUSY_SECONDS: Final = 5.0
"""How long one writer waits for another's transaction; SQLite has one writer at a time."""
_POLL_SECONDS: Final = 0.01


def connect(path: Path, mode: Literal["ro", "rw", "rwc"]) -> sqlite3.Connection:
    """Open the file; only `rwc` makes it. Transactions are opened by hand (BEGIN IMMEDIATE). Raises sqlite3.Error.

    Any thread may use the connection, one at a time: a writer's is closed by whoever ends the pipeline.
    """
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def make_durable(connection: sqlite3.Connection) -> None:
    """Write-ahead log, and an fsync at every commit (in WAL mode `NORMAL` has none). Raises sqlite3.Error."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # Two that turn a new file into WAL at once: SQLite tells one of them "busy" without waiting.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(_POLL_SECONDS)
    connection.execute("PRAGMA synchronous = FULL")
