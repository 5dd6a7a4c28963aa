"""Evidence: what is stored and parked, seen through connections of our own that pass no proxy."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pymysql

from tests.acceptance.nemesis.messages import Key, Message

Connect = Callable[[], Any]
"""Opens a connection to the database of the run, autocommit on."""

_IN_ONE_SELECT = 200
_LOCKED = frozenset({1205, 1412, 1213})
"""A schema change is in the way for a moment."""
_SAME_KEY = "(device_id = %s AND metric = %s AND ts = %s AND event_id = %s)"
COLUMNS = "device_id, metric, ts, event_id, value, value_text, unit, topic, payload, revised_at"

Letter = tuple[str, bytes]
"""Topic and payload of a dead letter."""


class Evidence:
    """Looks rows and letters up. Each SELECT is a transaction of its own, so it sees what is committed at that moment."""

    def __init__(self, connect: Connect, box: Path) -> None:
        self._connect = connect
        self._box = box
        self._database: Any = None
        self._letters: sqlite3.Connection | None = None
        self._last_letter = 0
        self._known: set[Letter] = set()

    def close(self) -> None:
        """Close both connections."""
        for connection in (self._database, self._letters):
            if connection is not None:
                connection.close()

    def stored(self, messages: Iterable[Message]) -> set[Key]:
        """Return the keys of those messages whose rows are visible now, found by primary key."""
        keys = list({message.key for message in messages if message.key is not None})
        found: set[Key] = set()
        for start in range(0, len(keys), _IN_ONE_SELECT):
            some = keys[start : start + _IN_ONE_SELECT]
            where = " OR ".join([_SAME_KEY] * len(some))
            query = f"SELECT device_id, metric, ts, event_id FROM sensor_readings WHERE {where}"
            rows = self._select(query, [part for key in some for part in key])
            found |= {Key(*row) for row in rows}
        return found

    def parked(self) -> set[Letter]:
        """Return all letters that are in the box now. Letters never leave it during a run, so only new ones are read."""
        connection = self._open_box()
        if connection is not None:
            query = "SELECT id, topic, payload FROM letters WHERE id > ? ORDER BY id"
            for number, topic, payload in connection.execute(query, (self._last_letter,)):
                self._last_letter = number
                self._known.add((topic, payload))
        return self._known

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the whole table, as COLUMNS."""
        return list(self._select(f"SELECT {COLUMNS} FROM sensor_readings", []))

    def letters(self) -> Counter[Letter]:
        """Return how many letters there are for each topic and payload."""
        connection = self._open_box()
        return Counter() if connection is None else Counter(connection.execute("SELECT topic, payload FROM letters"))

    def _select(self, query: str, parameters: Sequence[object]) -> Sequence[tuple[Any, ...]]:
        for attempt in range(20):
            try:
                if self._database is None:
                    self._database = self._connect()
                with self._database.cursor() as cursor:
                    cursor.execute(query, parameters)
                    rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
                    return rows
            except pymysql.OperationalError as error:
                if error.args[0] not in _LOCKED or attempt == 19:
                    raise
                time.sleep(0.05)
        raise AssertionError

    def _open_box(self) -> sqlite3.Connection | None:
        if self._letters is None and self._box.exists():
            connection = sqlite3.connect(f"file:{self._box}?mode=ro", uri=True, isolation_level=None, timeout=5)
            try:
                connection.execute("SELECT 1 FROM letters LIMIT 1")
            except sqlite3.OperationalError:  # the file is being created
                connection.close()
                return None
            self._letters = connection
        return self._letters
