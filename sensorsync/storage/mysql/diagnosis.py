"""The judgement of what the driver raised, by its number and its phase. The tables are in `faults` and `cluster_faults`."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

import pymysql

from sensorsync.messages.reading import Reading, TargetTable
from sensorsync.pipeline.contract import Row
from sensorsync.storage.mysql.cluster_faults import COMMIT_ERROR, GROUP_HOOK_ERROR, find_rule
from sensorsync.storage.mysql.comparison_rows import table_of
from sensorsync.storage.mysql.error_rule import ErrorAction, ErrorRule
from sensorsync.storage.mysql.faults import ERROR_RULES, FOREIGN_KEY_ERRNOS, NOT_NULL, TLS_HINT, USER_LIMIT

_CANNOT_CONNECT = 2003
_CONNECTION_LOST_ERRNOS = frozenset({1053, 1927, 2006, 2013, 2055, 3169, 4031})
_UNKNOWN_ERROR = ErrorRule(ErrorAction.UNKNOWN, "an error that sensorsync does not know")
_DEAD_CONNECTION = ErrorRule(ErrorAction.OUTAGE, "the connection is dead")
_UNTRUSTED_CERTIFICATE = ErrorRule(
    ErrorAction.CONFIG, "the server's certificate is not the one that we trust", TLS_HINT
)
_NOT_MYSQL = ErrorRule(
    ErrorAction.CONFIG,
    "what answers there is no MySQL server",
    "check database.host and database.port (DB_HOST, DB_PORT)",
)
_MISSING_FILE = ErrorRule(ErrorAction.CONFIG, "a file is missing", TLS_HINT)
_MISSING_PACKAGE = ErrorRule(
    ErrorAction.CONFIG, "the driver lacks a package", "install sensorsync again with all its dependencies"
)
_QUOTED = re.compile(r"'(max_\w+)'")
_QUOTED_WORD = re.compile(r"[`']([^`']+)(?=[`'])")
_FOREIGN_TABLE = re.compile(r"\(`[^`]*`\.`((?:[^`]|``)*)`")
_LIMIT_RULES: Final[Mapping[str, tuple[str, str]]] = {
    "max_questions": ("statements per hour", "MAX_QUERIES_PER_HOUR 0"),
    "max_updates": ("writes per hour", "MAX_UPDATES_PER_HOUR 0"),
    "max_connections_per_hour": ("connections per hour", "MAX_CONNECTIONS_PER_HOUR 0"),
    "max_user_connections": ("connections at once", "MAX_USER_CONNECTIONS 0, or lower database.pool_size"),
    "max_statement_time": ("the time of a statement", "MAX_STATEMENT_TIME 0"),
}
"""The name of the limit in error 1226 (it is not translated) -> what it counts, and the clause of ALTER USER."""


class Phase(StrEnum):
    """The step in which an error came. Only a statement can fail for what is in a row."""

    CONNECT = "connect"
    BEGIN = "begin"
    STATEMENT = "statement"
    COMMIT = "commit"
    STATEMENT_OR_COMMIT = "statement or commit"
    """A single statement in autocommit. An unknown number there can be the COMMIT's: repeat the row within a transaction to know."""


class ErrorDiagnosis(NamedTuple):
    """The classification of one error."""

    rule: ErrorRule
    errno: int | None
    message: str
    connection_lost: bool
    """True when the connection broke. The last statement may or may not have been executed."""


def diagnose_error(error: BaseException, phase: Phase = Phase.STATEMENT, product: str = "") -> ErrorDiagnosis:
    """Return what `error`, raised by the driver in `phase`, means for the batch. `product`: the server's version text, if known."""
    connecting = phase is Phase.CONNECT
    errno = _errno_of(error)
    message = (
        str(error.args[1])
        if errno is not None and len(error.args) > 1 and error.args[1]
        else str(error) or type(error).__name__
    )
    cause = getattr(error, "original_exception", None)
    if isinstance(cause, ssl.SSLError) and errno == _CANNOT_CONNECT:
        # The number is the same as for "connection refused". Only a wrong certificate is a permanent error.
        rule = (
            _UNTRUSTED_CERTIFICATE if isinstance(cause, ssl.SSLCertVerificationError) else ERROR_RULES[_CANNOT_CONNECT]
        )
    elif errno is not None:
        rule = _limit_rule(message) if errno == USER_LIMIT else find_rule(errno, message, product) or _UNKNOWN_ERROR
    else:
        rule = _rule_without_errno(error, connecting=connecting)
    rule = rule._replace(action=_action_in_phase(rule.action, errno, phase))
    lost = (
        isinstance(error, pymysql.InterfaceError)
        or errno in _CONNECTION_LOST_ERRNOS
        or (errno is None and rule is _DEAD_CONNECTION)
    )
    text = message if errno is None or errno == 0 else f"{message} ({errno})"
    return ErrorDiagnosis(rule, errno or None, f"{rule.meaning}: {text}", lost)


def blames_other_table(diagnosis: ErrorDiagnosis, row: Row) -> bool:
    """Return True where another table than the row's refused something: one that a trigger writes to.

    For a foreign key the names stand in backticks, in every language: "(`db`.`table`, CONSTRAINT ...". 1216 has none. A column that
    may not be NULL is another table's unless the row has NULL in a column of that name (`sensor_readings` has none that is NULL and
    may not be).
    """
    if diagnosis.errno == NOT_NULL:
        columns = () if isinstance(row, Reading) else zip(row.table.columns, row.values, strict=True)
        return not {column.name.lower() for column, value in columns if value is None} & _quoted_words(diagnosis)
    if diagnosis.errno not in FOREIGN_KEY_ERRNOS:
        return False
    found = _FOREIGN_TABLE.search(diagnosis.message)
    return found is None or found[1].replace("``", "`").lower() != table_of(row).lower()


def is_nameless_foreign_key(diagnosis: ErrorDiagnosis) -> bool:
    """Return True for a foreign key whose table the server does not name: MySQL names it only to who has rights on both tables."""
    return diagnosis.errno in FOREIGN_KEY_ERRNOS and not _FOREIGN_TABLE.search(diagnosis.message)


def names_key(diagnosis: ErrorDiagnosis, table: TargetTable) -> bool:
    """Return True where the message names a column of the key, the table itself or a CHECK that has its name."""
    names = {table.name.lower(), *(column.lower() for column in table.key)}
    return any(word in names or word.startswith(f"{table.name.lower()}_chk_") for word in _quoted_words(diagnosis))


def _quoted_words(diagnosis: ErrorDiagnosis) -> set[str]:
    return {word.lower() for word in _QUOTED_WORD.findall(diagnosis.message)}


def is_row_too_large(diagnosis: ErrorDiagnosis) -> bool:
    """Return True where TOO_LARGE for a transaction of one row is the row's fault: not where the number has other causes, too."""
    return diagnosis.errno not in {GROUP_HOOK_ERROR, COMMIT_ERROR}


def _action_in_phase(action: ErrorAction, errno: int | None, phase: Phase) -> ErrorAction:
    """Return the action with the phase taken into account: no row is at fault for a connect, a BEGIN or a COMMIT that failed."""
    blamed = {ErrorAction.UNKNOWN, ErrorAction.REJECT}
    if phase in {Phase.CONNECT, Phase.BEGIN}:
        blamed.add(ErrorAction.TOO_LARGE)
    elif phase is not Phase.COMMIT and errno != COMMIT_ERROR:
        return action
    return ErrorAction.OUTAGE if action in blamed else action


def _limit_rule(message: str) -> ErrorRule:
    rule = ERROR_RULES[USER_LIMIT]
    found = _QUOTED.search(message)
    known = _LIMIT_RULES.get(found[1]) if found else None
    if known is None:
        return rule
    counted, fix = known
    return rule._replace(
        meaning=f"this user has reached the limit of its account for {counted}",
        hint=f"raise it, or take it away: ALTER USER ... WITH {fix}",
    )


def _errno_of(error: BaseException) -> int | None:
    """Return the error number of the server or the driver, or None where the driver passes a text in its place."""
    first = error.args[0] if isinstance(error, pymysql.MySQLError) and error.args else None
    return first if isinstance(first, int) and not isinstance(first, bool) else None


def _rule_without_errno(error: BaseException, *, connecting: bool) -> ErrorRule:
    if isinstance(error, pymysql.InternalError):
        # "Packet sequence number wrong" means another protocol at the first packet, and a broken stream later.
        return _NOT_MYSQL if connecting else _DEAD_CONNECTION
    if isinstance(error, pymysql.OperationalError) and connecting:
        return _NOT_MYSQL
    if isinstance(error, FileNotFoundError):
        return _MISSING_FILE
    if isinstance(error, RuntimeError) and connecting:
        return _MISSING_PACKAGE
    # Error('Already closed'), or a bug inside the driver: the state of the connection is unknown.
    return _DEAD_CONNECTION
