"""The fault table, row by row, and what the driver hides in other places than its number (trap 9)."""

from __future__ import annotations

import ssl

import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.reading import Column, TableRow, TargetTable
from sensorsync.pipeline.contract import SinkMisconfigured, SinkUnavailable
from sensorsync.storage.mysql.cluster_faults import find_rule, known_numbers
from sensorsync.storage.mysql.connect import sink_error
from sensorsync.storage.mysql.diagnosis import Phase, blames_other_table, diagnose_error, is_row_too_large, names_key
from sensorsync.storage.mysql.faults import ERROR_RULES, ErrorAction
from tests.rows import reading

RETRY = {1205, 1213, 1317, 1412, 1969, 3024, 3101, 8002, 8005, 8022, 8028, 8147, 8229, 9004, 9006, 9007}
OUTAGE = {
    3, 167, 1015, 1016, 1021, 1026, 1030, 1034, 1036, 1040, 1047, 1053, 1114, 1129, 1203, 1226, 1290, 1297, 1467, 1637, 1792, 1812,
    1814, 1836, 1874, 1877, 1881, 2003, 2006, 2013, 3032, 3168, 3185, 3796, 3797, 3798, 3799, 4031, 8020, 8027, 8120, 8176, 8251,
    8252, 8253, 8254, 9001, 9002, 9003, 9005, 9008, 9010, 9011,
}  # fmt: skip
REJECT = {
    1048, 1118, 1153, 1241, 1264, 1265, 1292, 1366, 1367, 1406, 1452, 1526, 3140, 3144, 3157, 3819, 4025, 8025, 8129, 8178,
}  # fmt: skip
CONFIG = {
    1044, 1045, 1049, 1054, 1064, 1099, 1100, 1110, 1136, 1142, 1146, 1193, 1210, 1223, 1227, 1229, 1235, 1238, 1298, 1364, 1503,
    1524, 1820, 1862, 3118, 4151, 8047, 8048, 8121,
}  # fmt: skip
TOO_LARGE = {1197, 1705, 3100, 8004, 8175, 9500}
UNKNOWN = {1062, 1105, 1296, 1305, 1449, 1644, 1815, 9876}
EXPECTED = {
    **dict.fromkeys(RETRY, ErrorAction.RETRY),
    **dict.fromkeys(OUTAGE, ErrorAction.OUTAGE),
    **dict.fromkeys(REJECT, ErrorAction.REJECT),
    **dict.fromkeys(CONFIG, ErrorAction.CONFIG),
    **dict.fromkeys(TOO_LARGE, ErrorAction.TOO_LARGE),
    **dict.fromkeys(UNKNOWN, ErrorAction.UNKNOWN),
}


@pytest.mark.parametrize(("errno", "action"), sorted(EXPECTED.items()))
def test_every_number_seen_on_a_real_server_has_an_action(errno: int, action: ErrorAction) -> None:
    # Given: PyMySQL raises OperationalError for nearly everything, so the class must not matter.
    for kind in (pymysql.OperationalError, pymysql.DataError, pymysql.ProgrammingError):
        # When
        diagnosis = diagnose_error(kind(errno, "words in any language"))
        # Then
        assert (diagnosis.rule.action, diagnosis.errno) == (action, errno)


@pytest.mark.parametrize("errno", sorted(known_numbers()))
def test_every_rule_has_a_meaning_and_a_config_rule_has_a_hint(errno: int) -> None:
    fault = find_rule(errno, "")
    assert fault is not None
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
    assert diagnose_error(error, Phase.CONNECT).rule.action is ErrorAction.OUTAGE


def test_no_row_is_blamed_for_a_connect_that_failed() -> None:
    for errno in known_numbers():
        action = diagnose_error(pymysql.OperationalError(errno, "x"), Phase.CONNECT).rule.action
        assert action not in {ErrorAction.REJECT, ErrorAction.UNKNOWN}


@pytest.mark.parametrize("phase", [Phase.CONNECT, Phase.BEGIN, Phase.COMMIT])
@given(errno=st.one_of(st.integers(1, 12_000), st.sampled_from(sorted(known_numbers()))), text=st.text())
def test_no_row_is_at_fault_where_no_statement_of_it_failed(phase: Phase, errno: int, text: str) -> None:
    action = diagnose_error(pymysql.OperationalError(errno, text), phase).rule.action
    assert action not in {ErrorAction.REJECT, ErrorAction.UNKNOWN}
    assert phase is Phase.COMMIT or action is not ErrorAction.TOO_LARGE


def test_a_commit_may_be_too_large_and_then_smaller_ones_are_tried() -> None:
    for errno in (1197, 3100, 8004):
        assert diagnose_error(pymysql.OperationalError(errno, "x"), Phase.COMMIT).rule.action is ErrorAction.TOO_LARGE
    assert is_row_too_large(diagnose_error(pymysql.OperationalError(8004, "x"), Phase.COMMIT))
    assert not is_row_too_large(diagnose_error(pymysql.OperationalError(3100, "x"), Phase.COMMIT))


@pytest.mark.parametrize(
    ("errno", "text", "action"),
    [
        (1180, 'Got error 149 "Lock deadlock; Retry transaction" during COMMIT', ErrorAction.RETRY),
        (1180, "Got error 149 - 'Lock deadlock; Retry transaction' during COMMIT", ErrorAction.RETRY),
        (1180, "Fehler 146 beim COMMIT", ErrorAction.RETRY),
        (1180, 'Got error 90 "Message too long" during COMMIT', ErrorAction.TOO_LARGE),
        (1180, 'Got error 6 "No such device or address" during COMMIT', ErrorAction.OUTAGE),
        (1180, 'Got error 1 "Operation not permitted" during COMMIT', ErrorAction.OUTAGE),
        (1180, "no number at all", ErrorAction.OUTAGE),
        (1105, "target: ks.-80.primary: vttablet: rpc error: code = Aborted desc = Lock wait (errno 1205) (sqlstate HY000)",
         ErrorAction.RETRY),
        (1105, "target: ks.-80.primary: too long (errno 1406) (sqlstate 22001) (CallerID: u)", ErrorAction.REJECT),
        (1105, "target: ks.-80.primary: disallowed due to rule: enforce denied tables", ErrorAction.UNKNOWN),
        (1105, "[kv:9007]Write conflict, txnStartTS=1", ErrorAction.RETRY),
        (1105, "a reading said [kv:9007] or errno 1406", ErrorAction.UNKNOWN),
        (1105, "x (errno 1146) (sqlstate 42S02)", ErrorAction.OUTAGE),
        (1296, "Got error 4009 'Cluster Failure' from NDBCLUSTER", ErrorAction.OUTAGE),
        (1296, "Got error 157 'Could not connect to storage engine' from NDBCLUSTER", ErrorAction.OUTAGE),
        (1296, "Got error 857 'x' from NDBCLUSTER", ErrorAction.UNKNOWN),
    ],
)  # fmt: skip
def test_a_number_that_wraps_another_is_judged_by_the_one_inside(errno: int, text: str, action: ErrorAction) -> None:
    for phase in (Phase.STATEMENT, Phase.STATEMENT_OR_COMMIT):
        assert diagnose_error(pymysql.OperationalError(errno, text), phase).rule.action is action


def test_a_number_that_two_products_use_never_blames_a_row() -> None:
    locked = pymysql.OperationalError(
        9006, "ProxySQL Error: connection is locked to hostgroup 0 but trying to reach hostgroup 1"
    )
    proxied = diagnose_error(locked, product="8.0.36")
    assert proxied.rule.action is ErrorAction.CONFIG
    assert "mysql-set_query_lock_on_hostgroup" in (proxied.rule.hint or "")
    assert diagnose_error(locked, product="8.0.11-TiDB-v8.5.0").rule.action is ErrorAction.RETRY
    assert diagnose_error(pymysql.OperationalError(9006, "GC life time is shorter")).rule.action is ErrorAction.RETRY


@pytest.mark.parametrize(
    ("limit", "fix"),
    [
        ("max_questions", "MAX_QUERIES_PER_HOUR"),
        ("max_updates", "MAX_UPDATES_PER_HOUR"),
        ("max_connections_per_hour", "MAX_CONNECTIONS_PER_HOUR"),
        ("max_user_connections", "MAX_USER_CONNECTIONS"),
        ("max_statement_time", "MAX_STATEMENT_TIME"),
    ],
)
def test_the_limit_of_an_account_is_named_with_its_own_fix(limit: str, fix: str) -> None:
    error = pymysql.OperationalError(1226, f"User 'u' has exceeded the '{limit}' resource (current value: 5)")
    said = str(sink_error(diagnose_error(error), "db:3306"))
    assert f"ALTER USER ... WITH {fix}" in said
    assert ("database.pool_size" in said) == (limit == "max_user_connections")


def test_a_foreign_key_of_another_table_than_ours_does_not_blame_the_row() -> None:
    text = (
        "Cannot add or update a child row: a foreign key constraint fails (`db`.`{}`, CONSTRAINT `c` FOREIGN KEY (`d`))"
    )
    ours, other = (diagnose_error(pymysql.IntegrityError(1452, text.format(n))) for n in ("sensor_readings", "audit"))
    assert not blames_other_table(ours, reading())
    assert blames_other_table(other, reading())
    assert not blames_other_table(diagnose_error(pymysql.DataError(1406, "`db`.`audit`")), reading())


def test_a_column_that_may_not_be_null_is_another_table_s_unless_the_row_has_null_in_it() -> None:
    table = TargetTable("t", (Column("k", "text"), Column("N", "integer"), Column("name", "text")), key=("k",))
    row = TableRow(table, ("a", None, "b"), None)
    said = {
        name: diagnose_error(pymysql.IntegrityError(1048, f"Column '{name}' cannot be null"))
        for name in ("n", "name", "k", "value")
    }
    assert [name for name, error in said.items() if blames_other_table(error, row)] == ["name", "k", "value"]
    assert blames_other_table(said["value"], reading(value=None))


def test_a_message_names_the_key_of_a_table_the_table_or_its_check() -> None:
    table = TargetTable("t", (Column("k", "text"), Column("n", "integer")), key=("k",))
    texts = {
        "Data too long for column 'K' at row 1": True,
        "Incorrect string value: '\\xF0' for column `db`.`t`.`k` at row 1": True,
        "CONSTRAINT `c` failed for `db`.`t`": True,
        "Check constraint 't_chk_1' is violated.": True,
        "Data too long for column 'n' at row 1": False,
        "Check constraint 'log_chk_1' is violated.": False,
        "CONSTRAINT `c` failed for `db`.`log`": False,
    }
    for text, expected in texts.items():
        assert names_key(diagnose_error(pymysql.DataError(1366, text)), table) is expected, text


def test_a_wrong_certificate_hides_in_2003_and_is_no_outage() -> None:
    refused = pymysql.OperationalError(2003, "Can't connect")
    refused.original_exception = ConnectionRefusedError(111, "refused")  # type: ignore[attr-defined]
    untrusted = pymysql.OperationalError(2003, "Can't connect")
    untrusted.original_exception = ssl.SSLCertVerificationError("self-signed certificate")  # type: ignore[attr-defined]
    broken = pymysql.OperationalError(2003, "Can't connect")
    broken.original_exception = ssl.SSLError("unexpected eof")  # type: ignore[attr-defined]
    assert diagnose_error(refused, Phase.CONNECT).rule.action is ErrorAction.OUTAGE
    assert diagnose_error(untrusted, Phase.CONNECT).rule.action is ErrorAction.CONFIG
    assert diagnose_error(broken, Phase.CONNECT).rule.action is ErrorAction.OUTAGE


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
    diagnosis = diagnose_error(error, Phase.CONNECT if connecting else Phase.STATEMENT)
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
