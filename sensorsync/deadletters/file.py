"""BoxFile: the SQLite file of the dead-letter box, with its format check, durability settings and size limit."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Final

from sensorsync.deadletters.criteria import topic_matches
from sensorsync.errors import DeadLetterBoxError
from sensorsync.storage import sqlite_file
from sensorsync.storage.sqlite.open_files import OpenFiles, database_identity, has_log, log_of

_APPLICATION_ID: Final = 0x53534C42
"""`PRAGMA application_id` of a dead-letter box: "SSLB"."""
_VERSION: Final = 3
_VERSION_WITHOUT_KNOWN: Final = 2
"""The previous format, which lacks the table `known`. Reading does not need this table, and a writer adds it."""
_SHARE_OF_FREE_DISK: Final = 0.5
_JOURNAL_SIZE_LIMIT: Final = 16 * 2**20
"""Bytes that the write-ahead log may keep on disk when it is empty."""
_CHECKPOINT_DIVISOR: Final = 3
"""The fraction of the file's size (a third) that the write-ahead log may reach before its pages are moved into the file.

A replay deletes rows all over an index, so that earlier checkpoints would write the same pages many times.
"""
_CACHE_KIB: Final = 64 * 1024
"""The size of the page cache. The index of a million letters fits into it."""
_BUSY_TIMEOUT_MS: Final = 30_000
_VACUUM_PAGES: Final = 2_000


class BoxFile:
    """The connection to the file, shared by threads under `lock`. Failures are raised as DeadLetterBoxError, in one sentence."""

    def __init__(self, path: Path, max_size: int) -> None:
        self.path = path
        self.lock = threading.RLock()
        self._max_size = max_size
        self._connection: sqlite3.Connection | None = None
        self._opened: OpenFiles | None = None
        """The files of the connection that parks letters."""
        self._open = False

    def open(self) -> None:
        """Open the file to park letters, and create file and folder where they are missing."""
        with self.lock:
            self._connect()
            self._open = True

    def open_existing(self, *, writable: bool) -> bool:
        """Open the file to read letters or to remove them. Return False, and create nothing, when it does not exist.

        Removal has no size limit, because a full SQLite file cannot even DELETE. Its commits are not fsynced either: a
        letter that is removed twice after a crash of the machine does no harm.
        """
        if not self.path.exists():
            return False
        with self._translate_open_errors():
            connection = sqlite_file.connect(self.path, "rw" if writable else "ro")
            with _closed_on_error(connection):
                self._check_format(connection)
                if writable:
                    if _pragma(connection, "user_version") == _VERSION_WITHOUT_KNOWN:
                        _set_up_tables(connection)
                    _prepare_for_deletes(connection)
                _add_functions(connection)
            self._connection = connection
        return True

    def close(self) -> None:
        """Close the connection. A second call does nothing."""
        with self.lock:
            self._open = False
            with contextlib.suppress(DeadLetterBoxError):
                self._save_log()
            self._disconnect()

    @contextlib.contextmanager
    def read_transaction(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction to read from. All reads in the block see the same state."""
        with self.lock:
            connection = self._require_connection()
            try:
                with _transaction(connection, "BEGIN"):
                    yield connection
            except sqlite3.Error as error:
                raise DeadLetterBoxError(f"Cannot read the dead-letter box {self.path}: {error}.") from error

    @contextlib.contextmanager
    def write_transaction(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that is committed at the end of the block, or rolled back by an exception."""
        with self.lock:
            connection = self._require_connection()
            try:
                with _transaction(connection, "BEGIN IMMEDIATE"):
                    yield connection
            except sqlite3.Error as error:
                raise DeadLetterBoxError(
                    f"Cannot write into the dead-letter box {self.path}: {error}.", hint=_hint(error)
                ) from error

    @contextlib.contextmanager
    def durable_transaction(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction whose commit counts only when it is in files that still have their names.

        Raises DeadLetterBoxError at the end of the block when a file was removed or replaced meanwhile. The caller must then
        repeat the transaction.
        """
        with self.lock:
            self._reopen_if_replaced()
            with self.write_transaction() as connection:
                yield connection
            if self._is_replaced():
                raise DeadLetterBoxError(
                    f"The dead-letter box {self.path} or its write-ahead log was removed or replaced during a commit.",
                    hint="The letters are written again. Leave the file, and those with -wal and -shm beside it, alone.",
                )

    def _is_replaced(self) -> bool:
        return OpenFiles.at(self.path) != self._opened

    def _reopen_if_replaced(self) -> None:
        """Open the files again when one of their paths names another file by now. Rows that are written to a deleted file are lost."""
        if not self._open:
            raise self._not_open()
        if self._connection is None or self._is_replaced():
            self._save_log()
            self._disconnect()
            self._connect()

    def _save_log(self) -> None:
        """Copy letters into the database file from a write-ahead log that has lost its name.

        Raises DeadLetterBoxError when another process prevents it. They would be lost with the connection, and a new log
        must not be started beside them.
        """
        now = OpenFiles.at(self.path)
        if self._connection is None or self._opened is None or now == self._opened:
            return
        if now.database == self._opened.database and _is_log_started(self.path):
            return  # another process has opened the box again; pages of the old log must not be mixed with theirs
        try:
            saved = not self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error:
            saved = False
        if not saved and now.database == self._opened.database:
            raise DeadLetterBoxError(
                f"The write-ahead log of the dead-letter box {self.path} was removed, and another process reads the box.",
                hint="Letters are parked again once it has finished.",
            )

    def vacuum(self) -> None:
        """Return free pages to the disk once they are half of the file. Before that, moving the other pages costs more than it saves.

        The pages are moved a few at a time, so that other processes can write in between.
        """
        free, all_pages = self._pages()
        if free * 2 < all_pages:
            return
        before = -1
        while free and free != before:
            with self.write_transaction() as connection:
                connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
            before, (free, _) = free, self._pages()

    def _pages(self) -> tuple[int, int]:
        with self.read_transaction() as connection:
            return _pragma(connection, "freelist_count"), _pragma(connection, "page_count")

    # -- opening -------------------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        with self._translate_open_errors():
            self._make_folder()
            _create_private(self.path)
            before = database_identity(self.path)
            connection = sqlite_file.connect(self.path, "rw")
            with _closed_on_error(connection):
                self._set_up(connection)
                opened = OpenFiles.at(self.path)
                if opened.database != before or (opened.log is None and has_log(connection)):
                    raise self._cannot_open("it was removed or replaced while it was opened")
            self._connection, self._opened = connection, opened

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except (FileExistsError, NotADirectoryError) as error:
            raise self._cannot_open(f"{self.path.parent} is not a folder") from error

    def _set_up(self, connection: sqlite3.Connection) -> None:
        self._check_format(connection)
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # possible only before the first table
        sqlite_file.make_durable(connection)
        connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_SIZE_LIMIT}")
        _set_up_tables(connection)  # before the limit, so that a full box can be upgraded
        connection.execute(f"PRAGMA max_page_count = {self._max_pages(connection)}")
        _add_functions(connection)

    def _check_format(self, connection: sqlite3.Connection) -> None:
        if not _pragma(connection, "schema_version"):
            return  # an empty file
        if _pragma(connection, "application_id") != _APPLICATION_ID:
            raise self._cannot_open("it is a database of another program")
        version = _pragma(connection, "user_version")
        if version not in {_VERSION, _VERSION_WITHOUT_KNOWN}:
            whose = "a newer" if version > _VERSION else "an older"
            raise self._cannot_open(
                f"{whose} version of sensorsync has written it (format {version}; this one has {_VERSION})",
                hint="Let dead_letters.path name another file, or use that version: its `dlq export` saves the letters.",
            )

    def _max_pages(self, connection: sqlite3.Connection) -> int:
        """Return the page limit for `max_size`, or for well below the free disk: the write-ahead log needs space, too."""
        disk = os.statvfs(self.path.parent)
        room = self.path.stat().st_size + int(disk.f_bavail * disk.f_frsize * _SHARE_OF_FREE_DISK)
        return max(1, min(self._max_size, room) // _pragma(connection, "page_size"))

    def _require_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise self._not_open()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = self._opened = None

    @contextlib.contextmanager
    def _translate_open_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._cannot_open(error.strerror or str(error)) from error
        except sqlite3.Error as error:
            raise self._cannot_open(str(error)) from error

    def _not_open(self) -> DeadLetterBoxError:
        return DeadLetterBoxError(f"The dead-letter box {self.path} is not open.")

    def _cannot_open(self, why: str, hint: str | None = None) -> DeadLetterBoxError:
        return DeadLetterBoxError(
            f"Cannot open the dead-letter box {self.path}: {why}.",
            hint=hint or "Let dead_letters.path name a file in a folder that this user may write to.",
        )


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    try:
        connection.execute(begin)
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _is_log_started(path: Path) -> bool:
    """Return True when the file that has the name of the write-ahead log now has content."""
    try:
        return log_of(path).stat().st_size > 0
    except OSError:
        return False


def _set_up_tables(connection: sqlite3.Connection) -> None:
    """Create the missing tables and indexes; in a new file this is all of them."""
    with _transaction(connection, "BEGIN IMMEDIATE"):
        former = _pragma(connection, "user_version")
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        for statement in _schema():
            connection.execute(statement)
        if former == _VERSION_WITHOUT_KNOWN:
            connection.execute("INSERT INTO known (sha256, id) SELECT sha256, id FROM letters ORDER BY sha256")


def _prepare_for_deletes(connection: sqlite3.Connection) -> None:
    log_pages = max(1000, _pragma(connection, "page_count") // _CHECKPOINT_DIVISOR)
    connection.execute("PRAGMA synchronous = NORMAL")
    # Debian's SQLite is built to overwrite deleted content, which makes it write half as much again.
    connection.execute("PRAGMA secure_delete = FAST")
    connection.execute(f"PRAGMA wal_autocheckpoint = {log_pages}")
    connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_SIZE_LIMIT}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")


def _add_functions(connection: sqlite3.Connection) -> None:
    connection.create_function("topic_matches", 2, topic_matches, deterministic=True)


def _create_private(path: Path) -> None:
    """Create an empty file that only this user can read, because letters contain data of devices.

    SQLite gives its other files the same mode.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the file's name must outlive a crash as its content does
    finally:
        os.close(folder)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _hint(error: sqlite3.Error) -> str | None:
    primary = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return "Make room on its disk, or raise dead_letters.max_size."
    if primary in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
        return "Run this as the user who runs `sensorsync subscribe`."
    return None


def _schema() -> list[str]:
    script = resources.files("sensorsync.deadletters").joinpath("schema.sql").read_text(encoding="utf-8")
    return [statement for statement in script.split(";\n") if statement.strip()]
