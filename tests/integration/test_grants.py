"""`init-db --grants` on a real server: the accounts can do what their commands do, nothing more, and less is too little."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pymysql
import pytest

from sensorsync.cli import main
from sensorsync.commands import init_db
from sensorsync.config import DatabaseTlsSettings, Settings
from sensorsync.storage.mysql.tuning.privileges import SCRATCH_PRIVILEGES, SCRATCH_TABLE, SET_PRIVILEGES
from sensorsync.storage.open import open_store
from tests.acceptance.test_promise import commands_for, stored, subscriber
from tests.bad_input import GOOD_READING, publish
from tests.conftest import Certificates, Database, DatabaseServer, Mosquitto, need
from tests.integration.mysql_bench import run_as_root
from tests.letters import good, left, park
from tests.rows import reading
from tests.services.database import is_oracle_mysql

DENIED = {1044, 1142, 1143, 1227, 1370}
ROLES = ("owner", "subscriber", "replayer", "tuner")
NOT_YOURS = {
    "reading": (
        "DELETE FROM sensor_readings",
        "TRUNCATE TABLE sensor_readings",
        "DROP TABLE sensor_readings",
        "ALTER TABLE sensor_readings DROP COLUMN unit",
        "CREATE INDEX i ON sensor_readings (ts)",
        "CREATE TABLE mine (i INT)",
        "SELECT * FROM sensorsync_migrations",
        "SELECT * FROM mysql.user",
        "CREATE USER 'mine'@'%'",
        "SET GLOBAL innodb_flush_log_at_trx_commit = 0",
        "CREATE DATABASE sensorsync_mine",
        "GRANT SELECT ON sensor_readings TO CURRENT_USER()",
    ),
    "owner": (
        "INSERT INTO sensor_readings SELECT * FROM sensor_readings",
        "UPDATE sensor_readings SET value = 0",
        "DROP TABLE sensorsync_migrations",
        "SET GLOBAL innodb_flush_log_at_trx_commit = 0",
        "CREATE USER 'mine'@'%'",
    ),
    "tuner": (
        "SELECT * FROM sensor_readings",
        "DELETE FROM sensor_readings",
        "CREATE TABLE mine (i INT)",
        "CREATE USER 'mine'@'%'",
        "SELECT * FROM mysql.user",
    ),
}


@pytest.fixture
def prepared(database: Database) -> Database:
    database.prepare()
    return database


def use(database: Database, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in database.environment(role).items():
        monkeypatch.setenv(name, value)


def errno_of(database: Database, role: str, statement: str) -> int | None:
    """The error with which the server refuses this account the statement."""
    account = {"user": f"sensorsync_{role}", "password": database.server.password}
    with database.connect(**account) as connection, connection.cursor() as cursor:
        try:
            cursor.execute(statement)
        except pymysql.MySQLError as error:
            return int(error.args[0])
    return None


# -- what is printed -----------------------------------------------------------------------------------------------------


def test_the_server_is_asked_what_it_is_and_the_fixtures_run_what_the_command_prints(
    prepared: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(prepared, "owner", monkeypatch)
    flavor = "mysql" if is_oracle_mysql() else "mariadb"
    used = init_db.grants(Settings(database=prepared.settings()), flavor=flavor).data

    assert main(["init-db", "--grants", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["data"]

    assert printed == json.loads(json.dumps(used))
    assert [account["role"] for account in printed["accounts"]] == list(ROLES)
    assert main(["init-db", "--grants"]) == 0
    script = capsys.readouterr().out
    for account in printed["accounts"]:
        assert all(f"\n{statement};\n" in script for statement in account["statements"])


def test_the_server_refuses_an_account_before_somebody_has_put_a_password_in(prepared: Database) -> None:
    for account in init_db.grants(Settings(database=prepared.settings()), flavor="mysql").data["accounts"]:
        assert errno_of(prepared, "owner", account["statements"][0]) == 1064


def test_an_underscore_in_the_database_s_name_lets_nobody_into_another_one(prepared: Database) -> None:
    assert "_" in prepared.name
    statement = f"CREATE DATABASE `{prepared.name.replace('_', 'x')}`"
    assert errno_of(prepared, "owner", statement) == 1044


def test_where_tls_is_required_the_accounts_cannot_connect_without(certificates: Certificates) -> None:
    need(DatabaseServer)
    with DatabaseServer(tls=certificates) as server:
        server.prepare(tls=DatabaseTlsSettings(mode="verify-ca", ca_file=certificates.authority))
        for role in ROLES:
            with pytest.raises(pymysql.OperationalError) as refused:
                server.connect(user=f"sensorsync_{role}", password=server.password, ssl_disabled=True)
            assert refused.value.args[0] == 1045


# -- no more than that ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_an_account_is_refused_what_its_commands_do_not_do(prepared: Database, role: str) -> None:
    for statement in NOT_YOURS.get(role, NOT_YOURS["reading"]):
        errno = errno_of(prepared, role, statement)
        assert errno in DENIED | {1410}, f"{statement}: {errno}"


# -- and no less ---------------------------------------------------------------------------------------------------------


def revoke(database: Database, role: str, privilege: str, table: str = "sensor_readings") -> None:
    run_as_root(database.server, f"REVOKE {privilege} ON `{database.name}`.{table} FROM 'sensorsync_{role}'@'%'")


@pytest.mark.parametrize("privilege", ["SELECT", "INSERT", "UPDATE"])
def test_subscribe_needs_each_privilege_of_the_subscriber(
    mosquitto: Mosquitto, prepared: Database, tmp_path: Path, privilege: str
) -> None:
    settings = {"SENSORSYNC_SECURITY__SIGNATURES": "off", "SENSORSYNC_MQTT__TOPICS": "t/#"}
    commands = commands_for(mosquitto, prepared, tmp_path / "state", **settings)
    with subscriber(commands, tmp_path / "log") as process:
        revoke(prepared, "subscriber", privilege)
        publish(mosquitto.port, [GOOD_READING])
        ended = process.finish()
    assert ended.exit_code == 4
    assert "init-db --grants" in ended.err
    assert stored(prepared) == 0


@pytest.mark.parametrize("privilege", ["SELECT", "INSERT", "UPDATE"])
def test_dlq_replay_needs_each_privilege_of_the_replayer(
    prepared: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, privilege: str
) -> None:
    box = tmp_path / "state" / "dead-letters.sqlite"
    park(box, [good(1)])
    use(prepared, "replayer", monkeypatch)
    revoke(prepared, "replayer", privilege)
    assert main(["dlq", "replay"]) == 4
    assert (stored(prepared), left(box)) == (0, 1)

    run_as_root(prepared.server, f"GRANT {privilege} ON `{prepared.name}`.sensor_readings TO 'sensorsync_replayer'@'%'")
    assert main(["dlq", "replay"]) == 0
    assert (stored(prepared), left(box)) == (1, 0)


def test_audit_works_for_the_subscriber_and_its_clean_for_the_owner_alone(
    prepared: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(open_store(prepared.settings())) as store:
        store.create_sink(0).write([reading(n, device_id=f"run-{n:05}") for n in range(3)])
    for role, words, code, there in (
        ("subscriber", ["--clean"], 4, 3),
        ("subscriber", [], 5, 3),
        ("owner", ["--clean"], 5, 0),
    ):
        use(prepared, role, monkeypatch)
        assert main(["audit", "run", *words]) == code, capsys.readouterr().err
        assert stored(prepared) == there
    revoke(prepared, "subscriber", "SELECT")
    use(prepared, "subscriber", monkeypatch)
    assert main(["audit", "run"]) == 4
    for privilege in ("DELETE", "SELECT"):
        revoke(prepared, "owner", privilege)
        use(prepared, "owner", monkeypatch)
        assert main(["audit", "run", "--clean"]) == 4


@pytest.mark.parametrize(
    ("privilege", "table"),
    [("CREATE", "*"), *((privilege, "sensorsync_migrations") for privilege in ("SELECT", "INSERT", "UPDATE"))],
)
def test_init_db_needs_each_privilege_of_the_owner(
    database: Database, monkeypatch: pytest.MonkeyPatch, privilege: str, table: str
) -> None:
    database.allow("owner")
    run_as_root(database.server, f"DROP DATABASE `{database.name}`")
    name = database.name.replace("_", r"\_") if table == "*" else database.name
    run_as_root(database.server, f"REVOKE {privilege} ON `{name}`.{table} FROM 'sensorsync_owner'@'%'")
    use(database, "owner", monkeypatch)
    assert main(["init-db"]) == 4

    database.allow("owner")
    assert main(["init-db"]) == 0


@pytest.mark.parametrize("privilege", ["ALTER", "DROP"])
def test_keeping_partitions_needs_each_privilege_of_the_owner(
    prepared: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], privilege: str
) -> None:
    use(prepared, "owner", monkeypatch)
    with prepared.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE sensor_readings PARTITION BY RANGE COLUMNS (ts)"
            " (PARTITION old VALUES LESS THAN ('2001-01-01'), PARTITION rest VALUES LESS THAN (MAXVALUE))"
        )
    revoke(prepared, "owner", privilege)
    assert main(["init-db", "--retain", "90d"]) == 4
    assert "init-db --grants" in capsys.readouterr().err

    prepared.allow("owner")
    assert main(["init-db", "--retain", "90d"]) == 0


def test_tune_db_needs_each_privilege_of_the_tuner(
    prepared: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That they are enough is shown by test_tune_db.py, which runs as the tuner."""
    use(prepared, "tuner", monkeypatch)
    measure = ["tune-db", "--measure", "--seconds", "50ms"]
    assert main(measure) == 0
    for privilege in SCRATCH_PRIVILEGES:
        revoke(prepared, "tuner", privilege, SCRATCH_TABLE)
        assert main(measure) in {4, 5}, privilege
        prepared.allow("tuner")

    setting = SET_PRIVILEGES["mysql" if is_oracle_mysql() else "mariadb"][0]
    run_as_root(prepared.server, f"REVOKE {setting} ON *.* FROM 'sensorsync_tuner'@'%'")
    capsys.readouterr()
    assert main(["tune-db", "--apply", "--json"]) in {4, 5}
    statuses = {advice["status"] for advice in json.loads(capsys.readouterr().out)["data"]["advice"]}
    assert "failed" in statuses
    assert "set" not in statuses
