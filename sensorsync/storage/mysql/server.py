"""The product and version of a server, and the settings by which it can lose rows that it has acknowledged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from sensorsync.storage.mysql.migrations import quote_identifier

_NUMBERS = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_ROW_ALIAS_SINCE = (8, 0, 19)
"""The first version with the row alias.

MySQL 8.0.19 introduced `INSERT ... VALUES (...) AS new ON DUPLICATE KEY UPDATE c = new.c`; 8.0.20 began to warn about
VALUES().
"""


_FOREIGN_KEY = re.compile(r" FOREIGN KEY \(([^)]+)\) REFERENCES ")


def decode_text(value: Any) -> str:
    """Return a value from the server's metadata as text. MySQL returns some of them as bytes, for example in information_schema.

    The bytes of a default value need not be a text: MariaDB returns the ones of a BINARY column as they are.
    """
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def read_definition(cursor: Any, table: str) -> str | None:
    """Return the statement that creates a table, None where the server returns no row. Raises what the driver raises.

    Its bytes need not be UTF-8: MariaDB writes the default of a BINARY column as it is. The driver would fail in the middle of the
    answer, and the connection would be out of step.
    """
    connection = cursor.connection
    before, connection.use_unicode = connection.use_unicode, False
    try:
        cursor.execute(f"SHOW CREATE TABLE {quote_identifier(table)}")
    finally:
        connection.use_unicode = before
    row = cursor.fetchone()
    return None if row is None else decode_text(row[1])


def foreign_key_columns(definition: str) -> frozenset[str]:
    """Return the columns of the foreign keys in a table's definition, in lower case."""
    return frozenset(
        column.strip(" `").lower() for columns in _FOREIGN_KEY.findall(definition) for column in columns.split(",")
    )


class ServerInfo(NamedTuple):
    """The server at the other end of one connection. After a fail-over it can be another one."""

    mariadb: bool
    version: tuple[int, int, int]
    version_text: str
    max_allowed_packet: int
    """Bytes. The value is fixed for a session when it connects."""

    @classmethod
    def from_version(cls, version_text: str, max_allowed_packet: int) -> ServerInfo:
        """Return the server from the values of SERVER_INFO_QUERY. A version text without numbers counts as 0.0.0."""
        found = _NUMBERS.search(version_text)
        numbers = tuple(int(part or 0) for part in found.groups()) if found else (0, 0, 0)
        return cls(
            "mariadb" in version_text.lower(),
            (numbers[0], numbers[1], numbers[2]),
            version_text,
            int(max_allowed_packet),
        )

    @property
    def supports_row_alias(self) -> bool:
        """True when an upsert names the new row by an alias (MySQL), False when it uses VALUES() (MariaDB, older MySQL)."""
        return not self.mariadb and "tidb" not in self.version_text.lower() and self.version >= _ROW_ALIAS_SINCE

    @property
    def label(self) -> str:
        """The product and version, such as `MariaDB 10.11.19` or `MySQL 9.7.4`."""
        return f"{'MariaDB' if self.mariadb else 'MySQL'} {'.'.join(map(str, self.version))}"


DURABILITY_VARIABLES = ("innodb_flush_log_at_trx_commit", "log_bin", "sync_binlog", "innodb_doublewrite")


def durability_warnings(variables: Mapping[str, str], engine: str | None) -> list[str]:
    """Return a sentence for each way in which these global variables, or the engine of `sensor_readings`, can lose acknowledged rows.

    Source: MySQL Reference Manual, "InnoDB Startup Options" and "Binary Logging Options". `engine` is None where the
    table does not exist.
    """
    warnings: list[str] = []
    if engine is not None and engine.lower() != "innodb":
        warnings.append(
            f"the table sensor_readings uses the engine {engine}: a crash of the server can lose or tear acknowledged rows"
        )
    flush = variables.get("innodb_flush_log_at_trx_commit")
    if flush == "0":
        warnings.append(
            "innodb_flush_log_at_trx_commit is 0: when the server process dies, all rows acknowledged in the last second can be lost"
        )
    elif flush == "2":
        warnings.append(
            "innodb_flush_log_at_trx_commit is 2: when the server's host crashes, all rows acknowledged in the last second can be lost"
        )
    if variables.get("log_bin", "OFF").upper() in {"ON", "1"} and variables.get("sync_binlog") != "1":
        warnings.append(
            f"sync_binlog is {variables.get('sync_binlog')} with the binary log on: when the server's host crashes, the last "
            "acknowledged rows can be lost, there and on replicas"
        )
    if variables.get("innodb_doublewrite", "ON").upper() in {"OFF", "0"}:
        warnings.append(
            "innodb_doublewrite is OFF: when the server's host crashes, a half-written page can damage the table"
        )
    return warnings
