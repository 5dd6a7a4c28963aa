"""The check, while rows are written, that a table still is what it was at the start.

Somebody can add a unique key, change a collation or exchange the table by RENAME under a running process, and after a
fail-over the table is another server's. An upsert into such a table succeeds and can still drop rows: BLACKHOLE stores
nothing, a row that meets another key is taken for one that is there already.

The check is made inside the transaction, after the rows and before COMMIT: a table cannot be altered or exchanged while
an open transaction has used it (MySQL Reference Manual, "Metadata Locking"), so what it finds is true of these rows.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import Any, Final

import pymysql

from sensorsync.messages.reading import TargetTable
from sensorsync.pipeline.contract import SinkVerificationFailed
from sensorsync.storage.mysql.schema import readings_table_differences
from sensorsync.storage.mysql.server import read_definition
from sensorsync.storage.mysql.target_tables import target_table_differences
from sensorsync.storage.store import FIX_TABLE_HINT
from sensorsync.storage.target_table import READINGS_TABLE, TARGET_TABLE_HINT

logger = logging.getLogger(__name__)

_MOST_DEFINITIONS: Final = 256
_NEXT_NUMBER = re.compile(r" AUTO_INCREMENT=\d+")
_TEMPORARY: Final = "CREATE TEMPORARY TABLE "
"""A temporary table hides the one of the same name, and information_schema describes the hidden one."""
_ACCESS_DENIED: Final = frozenset({1142, 1143})


class TableVerifier:
    """The definitions of tables that have been found right. All writers of a store share one."""

    def __init__(self) -> None:
        self._accepted: set[tuple[str, str]] = set()
        self._reported: set[str] = set()
        self._lock = threading.Lock()

    def verify(self, cursor: Any, table: TargetTable | None, address: str) -> bool:
        """Return when rows can be written to `table` (None: `sensor_readings`) as they are; True when one query was enough.

        It is enough where the definition is known. A table or a column that is missing is left to the upsert, which the
        server refuses with an error number for it (1146, 1054). Raises SinkVerificationFailed, and what the driver raises.
        """
        name = READINGS_TABLE if table is None else table.name
        definition = _read_definition(cursor, name)
        if (name, definition) not in self._accepted:
            all_found = (
                readings_table_differences(cursor) if table is None else target_table_differences(cursor, (table,))
            )
            if definition is not None and definition.startswith(_TEMPORARY):
                all_found = [*all_found, f"{name} is a temporary table of this session, which ends with it"]
            found = [line for line in all_found if not line.startswith(f"{name} has no column ")]
            if found:
                self._report(name, address, found)
                hint = FIX_TABLE_HINT if table is None else TARGET_TABLE_HINT
                raise SinkVerificationFailed(f"{address}: {'; '.join(found)}", hint=hint)
            if not all_found:
                self._accept(cursor, name, definition)
                self._report_recovery(name, address)
            return False
        if name in self._reported:
            self._report_recovery(name, address)
        return True

    def _accept(self, cursor: Any, name: str, definition: str | None) -> None:
        if definition is None or _read_definition(cursor, name) != definition:
            return  # it changed between the queries, which may have seen the one or the other
        with self._lock:
            if len(self._accepted) >= _MOST_DEFINITIONS:
                self._accepted.clear()
            self._accepted.add((name, definition))

    def _report(self, name: str, address: str, found: list[str]) -> None:
        with self._lock:
            is_new = name not in self._reported
            self._reported.add(name)
        if is_new:
            logger.error(
                "%s: the table %s is not as it was verified: %s; nothing is acknowledged until it is again",
                address,
                name,
                "; ".join(found),
                extra={"event": "table_changed", "table": name},
            )

    def _report_recovery(self, name: str, address: str) -> None:
        with self._lock:
            was_reported = name in self._reported
            self._reported.discard(name)
        if was_reported:
            logger.info(
                "%s: the table %s is again as it was verified", address, name, extra={"event": "table_verified"}
            )


def _read_definition(cursor: Any, name: str) -> str | None:
    """Return the table's definition without the number that its AUTO_INCREMENT column gets next.

    None where this account may not see it: then every check queries information_schema.
    """
    try:
        definition = read_definition(cursor, name)
    except pymysql.Error as error:
        if error.args and error.args[0] in _ACCESS_DENIED:
            return None
        raise
    return None if definition is None else _NEXT_NUMBER.sub("", definition)
