"""Classification of the driver's exceptions by the table of errors in `faults.py`."""

from __future__ import annotations

import ssl
from typing import NamedTuple

import pymysql

from sensorsync.storage.mysql.faults import ERROR_RULES, TLS_HINT, ErrorAction, ErrorRule

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


class ErrorDiagnosis(NamedTuple):
    """The classification of one error."""

    rule: ErrorRule
    errno: int | None
    message: str
    connection_lost: bool
    """True when the connection broke. The last statement may or may not have been executed."""


def diagnose_error(error: BaseException, *, connecting: bool = False) -> ErrorDiagnosis:
    """Classify `error`, an exception of the driver.

    `connecting`: True when it was raised while a connection was being opened.
    """
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
        rule = ERROR_RULES.get(errno, _UNKNOWN_ERROR)
    else:
        rule = _rule_without_errno(error, connecting=connecting)
    if connecting and rule.action in {ErrorAction.UNKNOWN, ErrorAction.REJECT}:
        rule = rule._replace(action=ErrorAction.OUTAGE)
    lost = (
        isinstance(error, pymysql.InterfaceError)
        or errno in _CONNECTION_LOST_ERRNOS
        or (errno is None and rule is _DEAD_CONNECTION)
    )
    text = message if errno is None or errno == 0 else f"{message} ({errno})"
    return ErrorDiagnosis(rule, errno or None, f"{rule.meaning}: {text}", lost)


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
