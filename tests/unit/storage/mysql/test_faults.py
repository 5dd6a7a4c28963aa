"""The fault table, row by row, and what the driver hides in other places than its number (trap 9)."""

from __future__ import annotations

import ssl

import pymysql
import pytest

from sensorsync.pipeline.contract import SinkMisconfigured, SinkUnavailable
from sensorsync.storage.mysql.connect import outcome
from sensorsync.storage.mysql.diagnosis import diagnose
from sensorsync.storage.mysql.faults import FAULTS, Fate

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
    **dict.fromkeys(RETRY, Fate.RETRY),
    **dict.fromkeys(OUTAGE, Fate.OUTAGE),
    **dict.fromkeys(REJECT, Fate.REJECT),
    **dict.fromkeys(CONFIG, Fate.CONFIG),
}


@pytest.mark.parametrize(("errno", "fate"), sorted(EXPECTED.items()))
def test_every_number_seen_on_a_real_server_has_its_fate(errno: int, fate: Fate) -> None:
    # Given: PyMySQL raises OperationalError for nearly everything, so the class must not matter.
    for kind in (pymysql.OperationalError, pymysql.DataError, pymysql.ProgrammingError):
        # When
        diagnosis = diagnose(kind(errno, "words in any language"))
        # Then
        assert (diagnosis.fault.fate, diagnosis.errno) == (fate, errno)


@pytest.mark.parametrize("errno", sorted(FAULTS))
def test_every_fault_says_what_it_means_and_a_config_fault_what_to_do(errno: int) -> None:
    fault = FAULTS[errno]
    assert fault.meaning
    assert not fault.meaning.endswith(".")
    assert fault.hint or fault.fate is not Fate.CONFIG


def test_a_table_that_init_db_would_leave_as_it_is_gets_another_hint_than_one_that_is_missing() -> None:
    assert FAULTS[1146].hint == "run `sensorsync init-db`"
    for errno in (1054, 1364):
        hint = FAULTS[errno].hint
        assert hint is not None
        assert "init-db --check" in hint
        assert "alter the table by hand" in hint


def test_an_unknown_number_is_unknown_in_a_statement_and_an_outage_while_connecting() -> None:
    error = pymysql.OperationalError(9876, "brand new")
    assert diagnose(error).fault.fate is Fate.UNKNOWN
    assert diagnose(error, connecting=True).fault.fate is Fate.OUTAGE


def test_no_row_is_blamed_for_a_connect_that_failed() -> None:
    for errno in FAULTS:
        fate = diagnose(pymysql.OperationalError(errno, "x"), connecting=True).fault.fate
        assert fate not in {Fate.REJECT, Fate.UNKNOWN}


def test_a_wrong_certificate_hides_in_2003_and_is_no_outage() -> None:
    refused = pymysql.OperationalError(2003, "Can't connect")
    refused.original_exception = ConnectionRefusedError(111, "refused")  # type: ignore[attr-defined]
    untrusted = pymysql.OperationalError(2003, "Can't connect")
    untrusted.original_exception = ssl.SSLCertVerificationError("self-signed certificate")  # type: ignore[attr-defined]
    broken = pymysql.OperationalError(2003, "Can't connect")
    broken.original_exception = ssl.SSLError("unexpected eof")  # type: ignore[attr-defined]
    assert diagnose(refused, connecting=True).fault.fate is Fate.OUTAGE
    assert diagnose(untrusted, connecting=True).fault.fate is Fate.CONFIG
    assert diagnose(broken, connecting=True).fault.fate is Fate.OUTAGE


@pytest.mark.parametrize(
    ("error", "connecting", "fate"),
    [
        (pymysql.InterfaceError(0, ""), False, Fate.OUTAGE),
        (pymysql.Error("Already closed"), False, Fate.OUTAGE),
        (pymysql.InternalError("Packet sequence number wrong - got 72 expected 0"), True, Fate.CONFIG),
        (pymysql.InternalError("Packet sequence number wrong - got 7 expected 1"), False, Fate.OUTAGE),
        (pymysql.OperationalError("received unknown auth switch request"), True, Fate.CONFIG),
        (RuntimeError("'cryptography' package is required"), True, Fate.CONFIG),
        (FileNotFoundError(2, "No such file"), True, Fate.CONFIG),
        (IndexError("a driver that tripped over an answer"), False, Fate.OUTAGE),
    ],
)
def test_errors_without_a_number_have_a_fate_too(error: Exception, connecting: bool, fate: Fate) -> None:
    diagnosis = diagnose(error, connecting=connecting)
    assert diagnosis.fault.fate is fate
    assert diagnosis.errno is None


@pytest.mark.parametrize(
    "error", [pymysql.OperationalError(2013, "x"), pymysql.OperationalError(2006, "x"), pymysql.InterfaceError(0, "")]
)
def test_only_a_lost_connection_makes_a_commit_ambiguous(error: Exception) -> None:
    assert diagnose(error).lost
    assert not diagnose(pymysql.OperationalError(1290, "read-only")).lost
    assert not diagnose(pymysql.OperationalError(1213, "deadlock")).lost


def test_a_deadlock_is_retried_promptly_and_an_outage_is_not() -> None:
    deadlock = outcome(diagnose(pymysql.OperationalError(1213, "Deadlock found")), "db:3306")
    outage = outcome(diagnose(pymysql.OperationalError(1040, "Too many connections")), "db:3306")
    assert isinstance(deadlock, SinkUnavailable)
    assert isinstance(outage, SinkUnavailable)
    assert (deadlock.prompt, outage.prompt) == (True, False)
    assert "max_connections" in str(outage)


def test_a_missing_table_says_what_to_run() -> None:
    error = outcome(diagnose(pymysql.ProgrammingError(1146, "Table 'x' doesn't exist")), "db:3306")
    assert isinstance(error, SinkMisconfigured)
    assert error.hint == "run `sensorsync init-db`"
    assert "(1146)" in str(error)
