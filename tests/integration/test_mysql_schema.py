"""The schema on a real server: what `init-db --check` sees, and that the printed script makes the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from sensorsync.cli import main
from sensorsync.pipeline.contract import SinkMisconfigured
from sensorsync.storage.mysql.migrations import schema_script, split_statements
from sensorsync.storage.mysql.schema import READINGS_COLUMNS
from sensorsync.storage.mysql.store import MySqlStore
from tests.conftest import Database
from tests.integration.mysql_bench import migrated, run_as_root
from tests.rows import readings
from tests.services import DatabaseServer

pytestmark = pytest.mark.database

TO_MYISAM = (  # whose keys are at most 1000 bytes long
    "ALTER TABLE sensor_readings MODIFY device_id VARCHAR(64) NOT NULL, MODIFY metric VARCHAR(64) NOT NULL,"
    " ENGINE = MyISAM"
)


@pytest.fixture
def store(database: Database) -> Iterator[MySqlStore]:
    with migrated(database.server, database.name) as made:
        yield made


@pytest.fixture
def owner(store: MySqlStore, database: Database) -> Iterator[MySqlStore]:
    """The same database, as the account that `init-db` runs with."""
    with closing(MySqlStore(database.settings("owner"))) as made:
        yield made


def columns(server: DatabaseServer, database: str) -> list[tuple[object, ...]]:
    return run_as_root(
        server,
        "SELECT table_name, column_name, column_type, is_nullable, collation_name, column_comment"
        f" FROM information_schema.columns WHERE table_schema = '{database}' ORDER BY table_name, ordinal_position",
    )


def test_the_printed_script_makes_what_init_db_makes(owner: MySqlStore, database: Database) -> None:
    # Given
    other = f"{database.name}_sql"
    # When
    run_as_root(database.server, *split_statements(schema_script(other)))
    # Then
    assert columns(database.server, other) == columns(database.server, database.name)
    database.server.allow("owner", name=other)
    by_hand = MySqlStore(database.server.settings("owner", other))
    assert by_hand.schema_state() == owner.schema_state()
    assert by_hand.migrate().newly_applied == ()
    run_as_root(database.server, f"DROP DATABASE {other}")


def test_the_expected_columns_are_those_of_a_fresh_table(store: MySqlStore, database: Database) -> None:
    names = [row[1] for row in columns(database.server, database.name) if row[0] == "sensor_readings"]
    assert names == list(READINGS_COLUMNS)


def test_init_db_creates_a_database_that_is_missing(database: Database) -> None:
    server, name = database.server, f"{database.name}_new"
    server.allow("owner", name=name)
    owner = MySqlStore(server.settings("owner", name))
    assert not owner.schema_state().database_exists
    done = owner.migrate()
    assert done.database_created
    assert done.state.ready
    server.allow("subscriber", name=name)
    store = MySqlStore(server.settings(name=name))
    assert store.create_sink(0).write(readings(2)) == 2
    store.close()
    run_as_root(server, f"DROP DATABASE {name}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER TABLE sensor_readings DROP COLUMN unit", "has no column unit"),
        ("ALTER TABLE sensor_readings MODIFY value FLOAT NULL", "value is float, not double"),
        ("ALTER TABLE sensor_readings MODIFY value DOUBLE NOT NULL", "value may not be NULL"),
        ("ALTER TABLE sensor_readings MODIFY ts DATETIME(3) NOT NULL", r"ts is datetime\(3\), not datetime\(6\)"),
        (
            "ALTER TABLE sensor_readings ADD COLUMN site INT NOT NULL",
            "site is a column of its own that demands a value",
        ),
        ("ALTER TABLE sensor_readings ADD UNIQUE KEY again (event_id)", "second unique key, again"),
        ("ALTER TABLE sensor_readings DROP PRIMARY KEY, ADD PRIMARY KEY (event_id)", "the primary key of"),
        (
            "ALTER TABLE sensor_readings MODIFY metric VARCHAR(128) COLLATE utf8mb4_general_ci NOT NULL",
            "metric has the collation utf8mb4_general_ci",
        ),
        (TO_MYISAM, "MyISAM, not InnoDB"),
        ("DROP TABLE sensor_readings", "sensor_readings does not exist"),
    ],
)
def test_a_table_that_differs_is_found_out(store: MySqlStore, database: Database, change: str, words: str) -> None:
    run_as_root(database.server, change, database=database.name)
    with pytest.raises(SinkMisconfigured, match=words):
        store.check_schema()
    assert not store.schema_state().ready


def test_own_columns_indexes_and_partitions_are_fine(store: MySqlStore, database: Database) -> None:
    run_as_root(
        database.server,
        "ALTER TABLE sensor_readings ADD COLUMN site INT NULL, ADD COLUMN rank_ INT NOT NULL DEFAULT 0,"
        " ADD COLUMN day DATE GENERATED ALWAYS AS (CAST(ts AS DATE)) STORED, ADD INDEX by_arrival (received_at)",
        "ALTER TABLE sensor_readings PARTITION BY RANGE COLUMNS (ts) (PARTITION p0 VALUES LESS THAN ('2026-01-02'),"
        " PARTITION rest VALUES LESS THAN (MAXVALUE))",
        database=database.name,
    )
    store.check_schema()
    assert store.create_sink(0).write(readings(3)) == 3


def test_the_schema_of_a_newer_version_is_not_taken_for_ours(owner: MySqlStore, database: Database) -> None:
    run_as_root(
        database.server, "INSERT INTO sensorsync_migrations VALUES (99, '0099_later', NOW(6))", database=database.name
    )
    state = owner.schema_state()
    assert not state.ready
    assert "0099_later" in state.differences[0]


def test_a_table_that_was_renamed_as_the_hint_says_is_created_again(owner: MySqlStore, database: Database) -> None:
    run_as_root(
        database.server,
        "ALTER TABLE sensor_readings DROP COLUMN unit",
        "RENAME TABLE sensor_readings TO former",
        database=database.name,
    )
    # That said "nothing to do" for ever: the migration was on record.
    assert owner.schema_state().pending_migrations == ("0001_sensor_readings",)
    done = owner.migrate()
    assert (done.newly_applied, done.state.ready) == (("0001_sensor_readings",), True)
    assert owner.migrate().newly_applied == ()


def test_what_the_server_can_lose_is_read_from_it(private_database_server: DatabaseServer) -> None:
    server = private_database_server
    with migrated(server) as store:
        assert not any("innodb_flush_log" in warning for warning in store.durability_warnings())
        run_as_root(server, "SET GLOBAL innodb_flush_log_at_trx_commit = 0")
        assert any("innodb_flush_log_at_trx_commit is 0" in warning for warning in store.durability_warnings())
        run_as_root(server, TO_MYISAM, database=server.name)
        assert any("MyISAM" in warning for warning in store.durability_warnings())


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    database.allow("owner")
    for name, value in database.environment("owner").items():
        monkeypatch.setenv(name, value)
    return database


def test_the_command_checks_applies_and_checks_again(environment: Database, capsys: pytest.CaptureFixture[str]) -> None:
    def envelope() -> dict[str, dict[str, object]]:
        answer: dict[str, dict[str, object]] = json.loads(capsys.readouterr().out)
        return answer

    assert main(["init-db", "--check", "--json"]) == 5
    assert envelope()["data"]["pending"] == ["0001_sensor_readings"]
    assert main(["init-db", "--json"]) == 0
    assert envelope()["data"]["applied"] == ["0001_sensor_readings"]
    assert main(["init-db"]) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert main(["init-db", "--check", "--json"]) == 0
    assert envelope()["data"]["ready"] is True


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("DB_PASSWORD", "wrong", "database.password"),
        ("DB_NAME", "mysql_is_not_yours", "GRANT"),
        ("DB_PORT", "1", "running"),
        ("DB_HOST", "nowhere.invalid", "running"),
    ],
)
def test_the_command_ends_with_4_and_one_clear_sentence(
    environment: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    hint: str,
) -> None:
    monkeypatch.setenv(name, value)
    for words in (["init-db"], ["init-db", "--check"]):
        assert main(words) == 4
        shown = capsys.readouterr()
        assert shown.out == ""
        assert hint in shown.err
        assert "Traceback" not in shown.err
        assert environment.password not in shown.err
