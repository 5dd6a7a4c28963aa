"""The settings of a session: the statements that set them, and the check that they are in effect.

The check matters because a SET can be answered with OK and have no effect: a proxy such as ProxySQL answers some itself. Without
strict mode the server cuts values that do not fit, under another time zone TIMESTAMP columns get other times, under another
character set texts become others.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, Final

import pymysql

from sensorsync.config import DatabaseSettings
from sensorsync.storage.mysql.server import ServerInfo, decode_text

CHARSET: Final = "utf8mb4"
COLLATION: Final = "utf8mb4_bin"
SQL_MODE: Final = "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
"""Without strict mode a value that does not fit is cut and stored."""
_REQUIRED_MODES: Final = (
    frozenset({"STRICT_ALL_TABLES", "STRICT_TRANS_TABLES"}),
    frozenset({"NO_ZERO_IN_DATE"}),
    frozenset({"NO_ZERO_DATE"}),
    frozenset({"ERROR_FOR_DIVISION_BY_ZERO"}),
)
"""One of each. The tables are transactional, so both strict modes are the same for them."""
_HARMLESS_MODES: Final = frozenset(
    {"NO_ENGINE_SUBSTITUTION", "ONLY_FULL_GROUP_BY", "NO_AUTO_CREATE_USER", "TRADITIONAL"}
).union(*_REQUIRED_MODES)
_UTC: Final = frozenset({"+00:00", "UTC"})
_ISOLATION: Final = "READ-COMMITTED"
_UNKNOWN_VARIABLE: Final = 1193

SESSION_HINT: Final = (
    "a proxy between sensorsync and the server probably answers SET statements without passing them on: let it pass them"
    " (ProxySQL: a row in mysql_query_rules with match_digest '^SET' and the hostgroup of the server, and multiplexing off for it,"
    " or mysql-set_query_lock_on_hostgroup = 1), or connect to the server itself"
)
"""Advice for a setting that is not in effect."""

_VARIABLES: Final = (
    "sql_mode", "time_zone", "character_set_client", "character_set_connection", "character_set_results", "collation_connection",
)  # fmt: skip


def set_up_session(cursor: Any, settings: DatabaseSettings) -> None:
    """Send the settings. Raises what the driver raises.

    One variable in each statement: of several in one, ProxySQL applies those that it knows and drops the others.

    `wait_timeout`: where the network drops our packets, the server does not learn that we closed the connection. By default
    it would keep our open transaction for 8 hours, with its locks on the rows that we try to store again.
    """
    lock_wait = int(settings.lock_wait_timeout)
    cursor.execute("SET time_zone = '+00:00'")
    cursor.execute("SET sql_mode = %s", (SQL_MODE,))
    cursor.execute("SET innodb_lock_wait_timeout = %s", (lock_wait,))
    cursor.execute("SET lock_wait_timeout = %s", (lock_wait,))
    cursor.execute("SET wait_timeout = %s", (ceil(2 * settings.read_timeout),))
    # One row lock at a time and no gap locks. The variable has another name on each server; this runs on both.
    cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")


def read_session(cursor: Any) -> tuple[ServerInfo, list[str]]:
    """Return the server at the other end, and a sentence for each setting of the session that is not as it has to be.

    One round trip; also the way to find out whether a connection is alive. Raises what the driver raises.
    """
    mariadb = "mariadb" in str(cursor.connection.server_version).lower()
    first, second = ("tx_isolation", "transaction_isolation") if mariadb else ("transaction_isolation", "tx_isolation")
    try:
        row = _query(cursor, first)
    except pymysql.OperationalError as error:
        if error.args[0] != _UNKNOWN_VARIABLE:
            raise
        row = _query(cursor, second)  # a proxy announces a version of its own
    version, comment, max_allowed_packet, *values = row
    if "tidb" in str(comment).lower() and "tidb" not in version.lower():
        version = f"{version}-TiDB"  # whose version can be set to any text
    return ServerInfo.from_version(version, max_allowed_packet), session_differences(values)


def query_server_info(connection: Any) -> ServerInfo:
    """Return the version and the limits of the server of an open connection. Raises what the driver raises."""
    with connection.cursor() as cursor:
        return read_session(cursor)[0]


def session_differences(values: Sequence[Any]) -> list[str]:
    """Return a sentence for each value that is not as it has to be; the values in the order of the query."""
    sql_mode, time_zone, *charsets, collation, isolation = (
        "" if value is None else decode_text(value) for value in values
    )
    said: list[str] = []

    def expect(variable: str, found: str, wanted: str, *, fits: bool) -> None:
        if not fits:
            said.append(f"the session's {variable} is {found or 'empty'}, not {wanted}")

    expect("sql_mode", sql_mode, SQL_MODE, fits=_is_strict(sql_mode))
    expect("time_zone", time_zone, "+00:00", fits=time_zone in _UTC)
    for variable, charset in zip(_VARIABLES[2:5], charsets, strict=True):
        expect(variable, charset, CHARSET, fits=charset.lower() == CHARSET)
    expect(_VARIABLES[5], collation, COLLATION, fits=collation.lower() == COLLATION)
    expect("transaction isolation", isolation, _ISOLATION, fits=isolation.upper().replace(" ", "-") == _ISOLATION)
    return said


def _query(cursor: Any, isolation: str) -> Sequence[Any]:
    variables = ", ".join(f"@@session.{name}" for name in (*_VARIABLES, isolation))
    cursor.execute(f"SELECT VERSION(), @@version_comment, @@max_allowed_packet, {variables}")
    row: Sequence[Any] | None = cursor.fetchone()
    return row or ("", "", 0, *[""] * 7)


def _is_strict(sql_mode: str) -> bool:
    """Return whether a value that does not fit is refused, and nothing else in the mode changes the meaning of a statement."""
    modes = frozenset(mode for mode in sql_mode.upper().split(",") if mode)
    return modes <= _HARMLESS_MODES and all(modes & any_of for any_of in _REQUIRED_MODES)
