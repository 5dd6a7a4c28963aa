"""The fault table, row by row, and what the driver hides in other places than its number (trap 9)."""

from __future__ import annotations

import ssl

import pymysql
import pytest

from sensorsync.pipeline.contract import SinkMisconfigured, SinkUnavailable
from sensorsync.storage.mysql.connect import sink_error
from sensorsync.storage.mysql.diagnosis import diagnose_error
from sensorsync.storage.mysql.faults import ERROR_RULES, ErrorAction

RETRY = {1205, 1213, 1317, 1412, 1969, 3024, 3101}
OUTAGE = {
    3, 1015, 1021, 1026, 1030, 1036, 1040, 1047, 1053, 1114, 1129, 1203, 1226, 1290, 1836, 2003, 2006, 2013, 3032, 3100, 4031,
}  # fmt: skip
REJECT = {
    1048, 1062, 1118, 1153, 1180, 1241, 1264, 1265, 1292, 1366, 1367, 1406, 1452, 1526, 3140, 3144, 3157, 3819, 4025,
}  # fmt: skip
CONFIG = {
    167, 1044, 1045, 1049, 1054, 1064, 1099, 1100, 1110, 1136, 1142, 1146, 1193, 1210, 1223, 1227, 1229, 1238, 1298, 1364, 1503, 1524,
    1792, 1820, 1862, 3118, 4151,
}  # fmt: skip
EXPECTED = {
    **dict.fromkeys(RETRY, ErrorAction.RETRY),
    **dict.fromkeys(OUTAGE, ErrorAction.OUTAGE),
    **dict.fromkeys(REJECT, ErrorAction.REJECT),
    **dict.fromkeys(CONFIG, ErrorAction.CONFIG),
}


@pytest.mark.parametrize(("errno", "action"), sorted(EXPECTED.items()))
def test_every_number_seen_on_a_real_server_has_an_action(errno: int, action: ErrorAction) -> None:
    # Given: PyMySQL raises OperationalError for nearly everything, so the class must not matter.
    for kind in (pymysql.OperationalError, pymysql.DataError, pymysql.ProgrammingError):
        # When
        diagnosis = diagnose_error(kind(errno, "words in any language"))
        # Then
        assert (diagnosis.rule.action, diagnosis.errno) == (action, errno)


@pytest.mark.parametrize("errno", sorted(ERROR_RULES))
def test_every_rule_has_a_meaning_and_a_config_rule_has_a_hint(errno: int) -> None:
    fault = ERROR_RULES[errno]
    assert fault.meaning
    assert not fault.meaning.endswith(".")
    assert fault.hint or fault.action is not ErrorAction.CONFIG


def test_a_table_that_init_db_would_leave_as_it_is_gets_another_hint_than_one_that_is_missing() -> None:
    assert ERROR_RULES[1146].hint == "run `sensorsync init-db`"
    for errno in (1054, 1364):
        hint = ERROR_RULES[errno].hint
        assert hint is not None
        assert "init-db --check" in hint
        assert "alter the table by hand" in hint


def test_an_unknown_number_is_unknown_in_a_statement_and_an_outage_while_connecting() -> None:
    error = pymysql.OperationalError(9876, "brand new")
    assert diagnose_error(error).rule.action is ErrorAction.UNKNOWN
    assert diagnose_error(error, connecting=True).rule.action is ErrorAction.OUTAGE


def test_no_row_is_blamed_for_a_connect_that_failed() -> None:
    for errno in ERROR_RULES:
        action = diagnose_error(pymysql.OperationalError(errno, "x"), connecting=True).rule.action
        assert action not in {ErrorAction.REJECT, ErrorAction.UNKNOWN}


def test_a_wrong_certificate_hides_in_2003_and_is_no_outage() -> None:
    refused = pymysql.OperationalError(2003, "Can't connect")
    refused.original_exception = ConnectionRefusedError(111, "refused")  # type: ignore[attr-defined]
    untrusted = pymysql.OperationalError(2003, "Can't connect")
    untrusted.original_exception = ssl.SSLCertVerificationError("self-signed certificate")  # type: ignore[attr-defined]
    broken = pymysql.OperationalError(2003, "Can't connect")
    broken.original_exception = ssl.SSLError("unexpected eof")  # type: ignore[attr-defined]
    assert diagnose_error(refused, connecting=True).rule.action is ErrorAction.OUTAGE
    assert diagnose_error(untrusted, connecting=True).rule.action is ErrorAction.CONFIG
    assert diagnose_error(broken, connecting=True).rule.action is ErrorAction.OUTAGE


@pytest.mark.parametrize(
    ("error", "connecting", "action"),
    [
        (pymysql.InterfaceError(0, ""), False, ErrorAction.OUTAGE),
        (pymysql.Error("Already closed"), False, ErrorAction.OUTAGE),
        (pymysql.InternalError("Packet sequence number wrong - got 72 expected 0"), True, ErrorAction.CONFIG),
        (pymysql.InternalError("Packet sequence number wrong - got 7 expected 1"), False, ErrorAction.OUTAGE),
        (pymysql.OperationalError("received unknown auth switch request"), True, ErrorAction.CONFIG),
        (RuntimeError("'cryptography' package is required"), True, ErrorAction.CONFIG),
        (FileNotFoundError(2, "No such file"), True, ErrorAction.CONFIG),
        (IndexError("a driver that tripped over an answer"), False, ErrorAction.OUTAGE),
    ],
)
def test_errors_without_a_number_have_an_action_too(error: Exception, connecting: bool, action: ErrorAction) -> None:
    diagnosis = diagnose_error(error, connecting=connecting)
    assert diagnosis.rule.action is action
    assert diagnosis.errno is None


@pytest.mark.parametrize(
    "error", [pymysql.OperationalError(2013, "x"), pymysql.OperationalError(2006, "x"), pymysql.InterfaceError(0, "")]
)
def test_only_a_lost_connection_makes_a_commit_ambiguous(error: Exception) -> None:
    assert diagnose_error(error).connection_lost
    assert not diagnose_error(pymysql.OperationalError(1290, "read-only")).connection_lost
    assert not diagnose_error(pymysql.OperationalError(1213, "deadlock")).connection_lost


def test_a_deadlock_is_retried_promptly_and_an_outage_is_not() -> None:
    deadlock = sink_error(diagnose_error(pymysql.OperationalError(1213, "Deadlock found")), "db:3306")
    outage = sink_error(diagnose_error(pymysql.OperationalError(1040, "Too many connections")), "db:3306")
    assert isinstance(deadlock, SinkUnavailable)
    assert isinstance(outage, SinkUnavailable)
    assert (deadlock.retry_immediately, outage.retry_immediately) == (True, False)
    assert "max_connections" in str(outage)


def test_a_missing_table_is_an_error_with_the_command_to_run() -> None:
    error = sink_error(diagnose_error(pymysql.ProgrammingError(1146, "Table 'x' doesn't exist")), "db:3306")
    assert isinstance(error, SinkMisconfigured)
    assert error.hint == "run `sensorsync init-db`"
    assert "(1146)" in str(error)
