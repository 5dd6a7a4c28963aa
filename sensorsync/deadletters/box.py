"""DeadLetters: the dead-letter box."""

from __future__ import annotations

import json
import sqlite3
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from sensorsync.config import Settings
from sensorsync.deadletters import changes
from sensorsync.deadletters.changes import ReplayRejection
from sensorsync.deadletters.criteria import FROM_INDEX, Criteria
from sensorsync.deadletters.file import BoxFile
from sensorsync.deadletters.file_system import file_system_type, file_system_warnings
from sensorsync.deadletters.letters import (
    SELECT_DELIVERY,
    SELECT_LETTER,
    LetterVersion,
    ReasonCount,
    StoredLetter,
    append_history,
    history_entry,
    letter_row,
)
from sensorsync.deadletters.reason_counts import count_by_reason
from sensorsync.errors import DeadLetterBoxError
from sensorsync.pipeline.contract import DeadLetter, DeadLetterBoxUnavailable, Delivery

_ADD: Final = """
    INSERT INTO letters (sha256, reason, errno, first_seen, last_seen, refused_at, qos, topic, message, properties, payload, device)
    VALUES (?1, ?2, ?3, ?4, ?4, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"""
_SELECT_KNOWN: Final = """
    SELECT letters.id, refused_at, attempts, reason, errno, message, history FROM known JOIN letters USING (id)
    WHERE known.sha256 = ?"""
_UPDATE_KNOWN: Final = """
    UPDATE letters SET seen = seen + 1, first_seen = min(first_seen, ?4), last_seen = max(last_seen, ?4),
        refused_at = max(refused_at, ?4), reason = ?2, errno = ?3, message = ?7, history = ?8 WHERE id = ?1"""
_RESTORE: Final = """
    INSERT INTO letters (sha256, state, reason, errno, device, first_seen, last_seen, seen, attempts, next_retry_at, refused_at, qos,
        topic, message, properties, history, payload)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_IDS: Final = "(SELECT value FROM json_each(?))"
_COUNT_KNOWN_AND_LETTERS: Final = "SELECT (SELECT count(*) FROM known), (SELECT count(*) FROM letters)"
_PAYLOAD: Final = "coalesce(substr(payload, 1, ?), x'')"
_NO_PAYLOAD_LIMIT: Final = 2**31 - 1
_CHUNK: Final = 1000
"""The number of letters in one transaction, and in one chunk of a long list."""


class ReplayBatch(NamedTuple):
    """A batch of a replay."""

    letters: list[LetterVersion]
    """Its letters as they were read, in order."""
    deliveries: list[Delivery]
    """The messages of these letters, in the same order."""


class DeadLetters:
    """The box in the file `path`, of at most `max_size` bytes. Open it in one of three ways; then any thread may use it.

    `device_level`: the topic level (from 0) with the device's id; with None the id is read from the payload. Several
    processes may have the same box open. All methods except `park` raise DeadLetterBoxError.
    """

    def __init__(self, path: Path, *, max_size: int = 2**30, device_level: int | None = None) -> None:
        self.path = path
        self._file = BoxFile(path, max_size)
        self._device_level = device_level

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the box that the settings configure."""
        level = settings.reading.device_id_level
        return cls(settings.dead_letter_path, max_size=settings.dead_letters.max_size, device_level=level)

    def open(self) -> None:
        """Open the box to park letters, and create file and folder where they are missing."""
        self._file.open()

    def open_read_only(self) -> bool:
        """Open the box to read letters. Return False, and create nothing, when it does not exist."""
        return self._file.open_existing(writable=False)

    def open_for_changes(self) -> bool:
        """Open the box to replay, release or purge letters. Return False, and create nothing, when it does not exist.

        The file has no size limit then.
        """
        return self._file.open_existing(writable=True)

    def close(self) -> None:
        """Close the box. A second call does nothing."""
        self._file.close()

    def warnings(self) -> list[str]:
        """Return a sentence for each reason why letters may be less safe in this place than on a local disk."""
        return file_system_warnings(self.path, file_system_type(self.path))

    # -- park ------------------------------------------------------------------------------------------------------------

    def park(self, letters: Sequence[DeadLetter]) -> int:
        """Store all of `letters`, fsynced, or none, and return the number of new ones.

        Raises DeadLetterBoxUnavailable.
        """
        rows = [letter_row(letter, self._device_level) for letter in letters]
        try:
            with self._file.durable_transaction() as connection:
                return sum(_park(connection, row) for row in rows)
        except DeadLetterBoxError as error:
            raise DeadLetterBoxUnavailable(str(error)) from error
        except OSError as error:
            raise DeadLetterBoxUnavailable(f"{self.path}: {error}") from error

    def restore(self, letters: Iterable[StoredLetter]) -> int:
        """Put exported letters back unchanged, fsynced, all or none, and return the number of added ones.

        Letters that are in the box already stay as they are.
        """
        with self._file.durable_transaction() as connection:
            return sum(_restore(connection, letter) for letter in letters)

    # -- read ------------------------------------------------------------------------------------------------------------

    def letters(
        self,
        criteria: Criteria | None = None,
        *,
        limit: int | None = None,
        payload_bytes: int | None = None,
        oldest_first: bool = False,
    ) -> Iterator[StoredLetter]:
        """Yield at most `limit` letters, the last parked first.

        Each payload is cut after `payload_bytes` bytes; None returns it complete. Rows are read one at a time.
        """
        order = "ASC" if oldest_first else "DESC"
        where, parameters = (criteria or Criteria()).sql_condition()
        size = _NO_PAYLOAD_LIMIT if payload_bytes is None else payload_bytes
        many = -1 if limit is None else limit
        with self._file.read_transaction() as connection:
            if where == "1":
                found = f"{SELECT_LETTER}, {_PAYLOAD} FROM letters ORDER BY id {order} LIMIT ?"
                yield from map(StoredLetter.from_row, connection.execute(found, (size, many)))
                return
            chosen = connection.execute(
                f"SELECT id {FROM_INDEX} {where} ORDER BY id {order} LIMIT ?", (*parameters, many)
            )
            for (letter_id,) in chosen.fetchall():
                found = f"{SELECT_LETTER}, {_PAYLOAD} FROM letters WHERE id = ?"
                yield StoredLetter.from_row(connection.execute(found, (size, letter_id)).fetchone())

    def get(self, letter_id: int) -> StoredLetter | None:
        """Return one letter with its whole payload, or None when the box has no letter with this id."""
        with self._file.read_transaction() as connection:
            row = connection.execute(f"{SELECT_LETTER}, payload FROM letters WHERE id = ?", (letter_id,)).fetchone()
        return None if row is None else StoredLetter.from_row(row)

    def reason_counts(self, criteria: Criteria | None = None, *, now: float | None = None) -> list[ReasonCount]:
        """Return the number of letters by reason, errno and state, the largest first.

        `now`: the Unix time for which due letters are counted.
        """
        where, parameters = (criteria or Criteria()).sql_condition()
        with self._file.read_transaction() as connection:
            counts = list(count_by_reason(connection, where, parameters, time.time() if now is None else now))
        return sorted(counts, key=lambda count: -count.letters)

    # -- remove ----------------------------------------------------------------------------------------------------------

    def ids(self, criteria: Criteria, *, due: float | None = None) -> array[int]:
        """Return the ids of letters, in order.

        `due` (Unix time): only letters whose next attempt is due by then.
        """
        where, parameters = criteria.sql_condition()
        if due is not None:
            where, parameters = f"{where} AND next_retry_at <= ?", [*parameters, due]
        with self._file.read_transaction() as connection:
            return array(
                "q", (row[0] for row in connection.execute(f"SELECT id {FROM_INDEX} {where} ORDER BY id", parameters))
            )

    def read_batch(self, ids: Sequence[int], max_bytes: int) -> ReplayBatch:
        """Return the letters with these ids that are (still) parked, in order, until their payloads exceed `max_bytes`.

        The first one is always returned. The box is not changed.
        """
        query = f"{SELECT_DELIVERY} FROM letters WHERE id IN {_IDS} AND state = 'parked' ORDER BY id"
        found: list[LetterVersion] = []
        deliveries: list[Delivery] = []
        with self._file.read_transaction() as connection:
            rows = connection.execute(query, (json.dumps(list(ids)),))
            for letter_id, seen, topic, payload, qos, first_seen, properties, rejection_reason in rows:
                max_bytes -= len(payload)
                if max_bytes < 0 and found:
                    break
                found.append(LetterVersion(letter_id, seen))
                decoded = None if properties is None else json.loads(properties)
                deliveries.append(Delivery(topic, payload, qos, first_seen, None, decoded, rejection_reason))
        return ReplayBatch(found, deliveries)

    def get_many(self, ids: Sequence[int]) -> list[StoredLetter]:
        """Return the letters with these ids that are (still) in the box, in order."""
        query = f"{SELECT_LETTER}, payload FROM letters WHERE id IN {_IDS} ORDER BY id"
        with self._file.read_transaction() as connection:
            return list(map(StoredLetter.from_row, connection.execute(query, (json.dumps(list(ids)),))))

    def finish_batch(self, stored: Iterable[LetterVersion], rejected: Sequence[ReplayRejection], now: float) -> None:
        """End a batch of a replay in one transaction: delete the `stored` letters, and count the attempt of each rejected one.

        A letter whose message was parked again after it was read stays as it is now.
        """
        with self._file.write_transaction() as connection:
            changes.finish_replay(connection, stored, rejected, now)

    def purge(self, criteria: Criteria) -> int:
        """Delete letters permanently, a thousand in a transaction, and return their number.

        A letter whose message is parked again meanwhile, or that no longer meets the criteria, stays.
        """
        return self._change_in_chunks(changes.delete, criteria)

    def release(self, criteria: Criteria) -> int:
        """Reset letters so that a replay tries them again from the beginning, and return their number.

        A letter whose message is parked again meanwhile, or that no longer meets the criteria, stays as it is.
        """
        return self._change_in_chunks(changes.release, criteria)

    def compact(self) -> None:
        """Delete the hashes of removed letters once they are more than half of all hashes, and return free pages to the disk."""
        with self._file.read_transaction() as connection:
            known, remaining = connection.execute(_COUNT_KNOWN_AND_LETTERS).fetchone()
        if known > 2 * remaining:
            with self._file.write_transaction() as connection:
                connection.execute("DELETE FROM known")
                connection.execute("INSERT INTO known (sha256, id) SELECT sha256, id FROM letters ORDER BY sha256")
        self._file.vacuum()

    def _change_in_chunks(self, change: changes.Change, criteria: Criteria) -> int:
        where, parameters = criteria.sql_condition()
        with self._file.read_transaction() as connection:
            chosen = connection.execute(f"SELECT id, seen {FROM_INDEX} {where} ORDER BY id", parameters)
            ids, seen = array("q"), array("q")
            for letter_id, count in chosen:
                ids.append(letter_id)
                seen.append(count)
        changed = 0
        for start in range(0, len(ids), _CHUNK):
            letters = map(LetterVersion, ids[start : start + _CHUNK], seen[start : start + _CHUNK])
            with self._file.write_transaction() as connection:
                changed += change(connection, letters, criteria)
        return changed


def _park(connection: sqlite3.Connection, row: tuple[Any, ...]) -> bool:
    known = connection.execute(_SELECT_KNOWN, row[:1]).fetchone()
    if known is None:
        connection.execute(_ADD, row)
        return True
    letter_id, at, attempts, reason, errno, message, history = known
    if (reason, errno, message) != (row[1], row[2], row[6]):
        history = append_history(history, history_entry(at, attempts, reason, errno, message))
    connection.execute(_UPDATE_KNOWN, (letter_id, *row[1:7], history))
    return False


def _restore(connection: sqlite3.Connection, letter: StoredLetter) -> bool:
    if connection.execute(_SELECT_KNOWN, (letter.sha256,)).fetchone() is not None:
        return False
    row = (
        *letter[1:15],
        None if letter.properties is None else json.dumps(dict(letter.properties)),
        json.dumps(list(letter.history)) if letter.history else None,
        letter.payload,
    )
    connection.execute(_RESTORE, row)
    return True
