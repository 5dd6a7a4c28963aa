"""What the driver raised -> what is known about it. The table of meanings is in `faults.py`."""

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
    """What is known about one error."""

    rule: ErrorRule
    errno: int | None
    message: str
    connection_lost: bool
    """The connection broke: whatever was asked last may or may not have happened."""


def diagnose_error(error: BaseException, *, connecting: bool = False) -> ErrorDiagnosis:
    """What `error`, raised by the driver, means for the batch. `connecting`: it came while a connection was being made."""
    errno = _errno_of(error)
    message = (
        str(error.args[1])
        if errno is not None and len(error.args) > 1 and error.args[1]
        else str(error) or type(error).__name__
    )
    cause = getattr(error, "original_exception", None)
    if isinstance(cause, ssl.SSLError) and errno == _CANNOT_CONNECT:
        # Same number as "connection refused"; only a certificate that is wrong stays wrong.
        fault = (
            _UNTRUSTED_CERTIFICATE if isinstance(cause, ssl.SSLCertVerificationError) else ERROR_RULES[_CANNOT_CONNECT]
        )
    elif errno is not None:
        fault = ERROR_RULES.get(errno, _UNKNOWN_ERROR)
    else:
        fault = _rule_without_errno(error, connecting=connecting)
    if connecting and fault.action in {ErrorAction.UNKNOWN, ErrorAction.REJECT}:
        fault = fault._replace(action=ErrorAction.OUTAGE)
    lost = (
        isinstance(error, pymysql.InterfaceError)
        or errno in _CONNECTION_LOST_ERRNOS
        or (errno is None and fault is _DEAD_CONNECTION)
    )
    text = message if errno is None or errno == 0 else f"{message} ({errno})"
    return ErrorDiagnosis(fault, errno or None, f"{fault.meaning}: {text}", lost)


def _errno_of(error: BaseException) -> int | None:
    """The server's or the driver's number; None where the driver put a text in its place."""
    first = error.args[0] if isinstance(error, pymysql.MySQLError) and error.args else None
    return first if isinstance(first, int) and not isinstance(first, bool) else None


def _rule_without_errno(error: BaseException, *, connecting: bool) -> ErrorRule:
    if isinstance(error, pymysql.InternalError):
        # "Packet sequence number wrong": at the first packet it is another protocol, later a broken stream.
        return _NOT_MYSQL if connecting else _DEAD_CONNECTION
    if isinstance(error, pymysql.OperationalError) and connecting:
        return _NOT_MYSQL
    if isinstance(error, FileNotFoundError):
        return _MISSING_FILE
    if isinstance(error, RuntimeError) and connecting:
        return _MISSING_PACKAGE
    # Error('Already closed'), or an accident inside the driver: nothing can be assumed about the connection.
    return _DEAD_CONNECTION
