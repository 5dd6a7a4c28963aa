"""What the driver raised -> what is known about it. The table of meanings is in `faults.py`."""

from __future__ import annotations

import ssl
from typing import NamedTuple

import pymysql

from sensorsync.storage.mysql.faults import FAULTS, TLS_HINT, Fate, Fault

_CANNOT_CONNECT = 2003
_LOST = frozenset({1053, 1927, 2006, 2013, 2055, 3169, 4031})
_UNKNOWN = Fault(Fate.UNKNOWN, "an error that sensorsync does not know")
_DEAD = Fault(Fate.OUTAGE, "the connection is dead")
_WRONG_TLS = Fault(Fate.CONFIG, "the server's certificate is not the one that we trust", TLS_HINT)
_NOT_MYSQL = Fault(
    Fate.CONFIG, "what answers there is no MySQL server", "check database.host and database.port (DB_HOST, DB_PORT)"
)
_NO_FILE = Fault(Fate.CONFIG, "a file is missing", TLS_HINT)
_NO_PACKAGE = Fault(Fate.CONFIG, "the driver lacks a package", "install sensorsync again with all its dependencies")


class Diagnosis(NamedTuple):
    """What is known about one error."""

    fault: Fault
    errno: int | None
    message: str
    lost: bool
    """The connection broke: whatever was asked last may or may not have happened."""


def diagnose(error: BaseException, *, connecting: bool = False) -> Diagnosis:
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
        fault = _WRONG_TLS if isinstance(cause, ssl.SSLCertVerificationError) else FAULTS[_CANNOT_CONNECT]
    elif errno is not None:
        fault = FAULTS.get(errno, _UNKNOWN)
    else:
        fault = _without_number(error, connecting=connecting)
    if connecting and fault.fate in {Fate.UNKNOWN, Fate.REJECT}:
        fault = fault._replace(fate=Fate.OUTAGE)
    lost = isinstance(error, pymysql.InterfaceError) or errno in _LOST or (errno is None and fault is _DEAD)
    text = message if errno is None or errno == 0 else f"{message} ({errno})"
    return Diagnosis(fault, errno or None, f"{fault.meaning}: {text}", lost)


def _errno_of(error: BaseException) -> int | None:
    """The server's or the driver's number; None where the driver put a text in its place."""
    first = error.args[0] if isinstance(error, pymysql.MySQLError) and error.args else None
    return first if isinstance(first, int) and not isinstance(first, bool) else None


def _without_number(error: BaseException, *, connecting: bool) -> Fault:
    if isinstance(error, pymysql.InternalError):
        # "Packet sequence number wrong": at the first packet it is another protocol, later a broken stream.
        return _NOT_MYSQL if connecting else _DEAD
    if isinstance(error, pymysql.OperationalError) and connecting:
        return _NOT_MYSQL
    if isinstance(error, FileNotFoundError):
        return _NO_FILE
    if isinstance(error, RuntimeError) and connecting:
        return _NO_PACKAGE
    # Error('Already closed'), or an accident inside the driver: nothing can be assumed about the connection.
    return _DEAD
