"""Connections to the database file."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sensorsync.storage import sqlite_file
from sensorsync.storage.sqlite.faults import sink_error


def connect(path: Path, *, create: bool = False, read_only: bool = False) -> sqlite3.Connection:
    """Open the file, with durable commits unless it is read-only.

    Raises sqlite3.Error, also for a missing file unless `create`.
    """
    connection = sqlite_file.connect(path, "ro" if read_only else "rwc" if create else "rw")
    try:
        if not read_only:
            sqlite_file.make_durable(connection)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def database_connection(path: Path, *, create: bool = False, read_only: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a connection for the duration of the block. Errors are raised as the exceptions of `pipeline.contract`."""
    try:
        with contextlib.closing(connect(path, create=create, read_only=read_only)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise sink_error(error, str(path)) from error
