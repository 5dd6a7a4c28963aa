"""DeadLetters: the box itself."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

from sensorsync import sqlite_file
from sensorsync.deadletters.file_system import file_system_of, warnings_for
from sensorsync.deadletters.letters import ReasonCount, StoredLetter, row_of
from sensorsync.errors import DeadLetterBoxError
from sensorsync.pipeline.contract import BoxUnavailable, DeadLetter

_APPLICATION_ID: Final = 0x53534C42
"""Marks the file as ours (`PRAGMA application_id`): "SSLB"."""
_VERSION: Final = 1
_SHARE_OF_FREE_DISK: Final = 0.5
_ADD: Final = """
    INSERT INTO letters (sha256, reason, errno, first_seen, last_seen, qos, topic, message, properties, payload)
    VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (sha256) DO NOTHING"""
_SEEN_AGAIN: Final = """
    UPDATE letters SET seen = seen + 1, first_seen = min(first_seen, ?4), last_seen = max(last_seen, ?4),
        reason = ?2, errno = ?3, message = ?7 WHERE sha256 = ?1"""
_LETTERS: Final = """
    SELECT id, state, reason, errno, first_seen, last_seen, seen, attempts, next_retry_at, qos, topic, message, properties,
        length(payload), coalesce(substr(payload, 1, ?1), x'')
    FROM letters ORDER BY last_seen DESC, id DESC LIMIT ?2"""
_COUNTS: Final = (
    "SELECT reason, state, count(*) AS n FROM letters GROUP BY reason, state ORDER BY n DESC, reason, state"
)
_ALL: Final = 2**31 - 1


class DeadLetters:
    """The box in the file `path`, of at most `max_size` bytes. `open` it; then any thread may `park`.

    Several processes may have the same box open. Reading is for one thread, as a rule with `open_read_only`.
    """

    def __init__(self, path: Path, *, max_size: int = 2**30) -> None:
        self.path = path
        self._max_size = max_size
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode = -1
        self._open = False

    def open(self) -> None:
        """Open the box, making file and folder where they are missing. Raises DeadLetterBoxError."""
        with self._lock:
            self._connect()
            self._open = True

    def open_read_only(self) -> bool:
        """Open the box to look into it; False, and nothing is created, when there is none. Raises DeadLetterBoxError."""
        if not self.path.exists():
            return False
        with self._opening():
            connection = sqlite_file.connect(self.path, "ro")
            with _closed_on_error(connection):
                self._check_ours(connection)
            self._connection = connection
        return True

    def close(self) -> None:
        """Close it; again: nothing happens."""
        with self._lock:
            self._open = False
            self._disconnect()

    def warnings(self) -> list[str]:
        """Sentences: why letters may be less safe in this place than on a local disk."""
        return warnings_for(self.path, file_system_of(self.path))

    def park(self, letters: Sequence[DeadLetter]) -> int:
        """Store all of `letters`, fsynced, or none; return how many were new. Raises BoxUnavailable."""
        rows = [row_of(letter) for letter in letters]
        with self._lock:
            try:
                return _transact(self._in_place(), rows)
            except DeadLetterBoxError as error:
                raise BoxUnavailable(str(error)) from error
            except (sqlite3.Error, OSError) as error:
                raise BoxUnavailable(f"{self.path}: {error}") from error

    def letters(self, *, limit: int | None = None, payload_bytes: int | None = None) -> Iterator[StoredLetter]:
        """The letters, latest first, at most `limit`; of each payload the first `payload_bytes`, by default all. Streams.

        Raises DeadLetterBoxError.
        """
        asked = (_ALL if payload_bytes is None else payload_bytes, -1 if limit is None else limit)
        with self._reading() as connection:
            for row in connection.execute(_LETTERS, asked):
                letter = StoredLetter._make(row)
                yield letter._replace(properties=None if row[12] is None else json.loads(row[12]))

    def counts(self) -> list[ReasonCount]:
        """How many letters there are by reason and state, the most first. Raises DeadLetterBoxError."""
        with self._reading() as connection:
            return [ReasonCount._make(row) for row in connection.execute(_COUNTS)]

    # -- the file --------------------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        with self._opening():
            self._make_folder()
            _create_private(self.path)
            connection = sqlite_file.connect(self.path, "rw")
            with _closed_on_error(connection):
                self._set_up(connection)
            self._connection = connection
            self._inode = self.path.stat().st_ino
            return connection

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except (FileExistsError, NotADirectoryError) as error:
            raise self._cannot_open(f"{self.path.parent} is not a folder") from error

    def _set_up(self, connection: sqlite3.Connection) -> None:
        self._check_ours(connection)
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # possible only before the first table
        sqlite_file.make_durable(connection)
        connection.execute(f"PRAGMA max_page_count = {self._max_pages(connection)}")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        for statement in _schema():
            connection.execute(statement)
        connection.execute("COMMIT")

    def _check_ours(self, connection: sqlite3.Connection) -> None:
        if _pragma(connection, "schema_version") and _pragma(connection, "application_id") != _APPLICATION_ID:
            raise self._cannot_open("it is a database of another program")
        if _pragma(connection, "user_version") > _VERSION:
            raise self._cannot_open("a newer version of sensorsync has written it")

    def _max_pages(self, connection: sqlite3.Connection) -> int:
        """`max_size`, but well below the free disk: the write-ahead log needs room too, and a full SQLite can't even DELETE."""
        disk = os.statvfs(self.path.parent)
        room = self.path.stat().st_size + int(disk.f_bavail * disk.f_frsize * _SHARE_OF_FREE_DISK)
        return max(1, min(self._max_size, room) // _pragma(connection, "page_size"))

    def _in_place(self) -> sqlite3.Connection:
        """The connection, while the file is still the one that was opened: what goes into a deleted file is lost."""
        if not self._open:
            raise DeadLetterBoxError(f"The dead-letter box {self.path} is not open.")
        if self._connection is not None:
            with contextlib.suppress(FileNotFoundError):
                if self.path.stat().st_ino == self._inode:
                    return self._connection
        self._disconnect()
        return self._connect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._cannot_open(error.strerror or str(error)) from error
        except sqlite3.Error as error:
            raise self._cannot_open(str(error)) from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if self._connection is None:
            raise DeadLetterBoxError(f"The dead-letter box {self.path} is not open.")
        try:
            yield self._connection
        except sqlite3.Error as error:
            raise DeadLetterBoxError(f"Cannot read the dead-letter box {self.path}: {error}.") from error

    def _cannot_open(self, why: str) -> DeadLetterBoxError:
        return DeadLetterBoxError(
            f"Cannot open the dead-letter box {self.path}: {why}.",
            hint="Let dead_letters.path name a file in a folder that this user may write to.",
        )


def _transact(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
    new = 0
    try:
        connection.execute("BEGIN IMMEDIATE")
        for row in rows:
            if connection.execute(_ADD, row).rowcount:
                new += 1
            else:
                connection.execute(_SEEN_AGAIN, row[:7])
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise
    return new


@contextlib.contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _create_private(path: Path) -> None:
    """An empty file that only this user can read: letters hold what devices sent. SQLite gives its other files the same mode."""
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


def _schema() -> list[str]:
    script = resources.files("sensorsync.deadletters").joinpath("schema.sql").read_text(encoding="utf-8")
    return [statement for statement in script.split(";\n") if statement.strip()]
