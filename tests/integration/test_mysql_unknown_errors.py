"""Errors that do not show whose fault they are, on a real server: a trigger raises any number for the rows that a test chooses."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

import pytest

from sensorsync.messages.reading import Column, TableRow, TargetTable
from sensorsync.messages.reading.rows import ColumnKind, ColumnValue
from sensorsync.pipeline.contract import BatchRejected, DeadLetter, Delivery, Reading, RowSuspected, SinkUnavailable
from sensorsync.pipeline.writer import BatchWriter, RejectionBreaker
from sensorsync.runtime.backoff import Backoff
from sensorsync.storage.mysql.sink import MySqlSink
from sensorsync.storage.mysql.store import MySqlStore
from tests.conftest import Database
from tests.integration.mysql_bench import migrated, run_as_root, settings_for
from tests.rows import reading, readings
from tests.services import DatabaseServer, is_oracle_mysql

pytestmark = pytest.mark.database

NUMBERS = (1105, 1296, 1449, 1644, 1815, 9876)
POISON = 3


@pytest.fixture
def store(database: Database) -> Iterator[MySqlStore]:
    with migrated(database.server, database.name, lock_wait_timeout=1) as made:
        yield made


def refuse(database: Database, condition: str, number: int, text: str = "no") -> None:
    """Have a trigger refuse the rows of which `condition` is true."""
    run_as_root(
        database.server,
        "DROP TRIGGER IF EXISTS refuse",
        f"CREATE TRIGGER refuse BEFORE INSERT ON sensor_readings FOR EACH ROW IF {condition} THEN"
        f" SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = '{text}'; END IF",
        database=database.name,
    )


@pytest.mark.parametrize("number", NUMBERS)
def test_a_row_is_suspect_while_another_of_its_device_is_accepted_and_an_outage_is_not_its_fault(
    store: MySqlStore, database: Database, number: int
) -> None:
    refuse(database, f"NEW.value = {20 + POISON}", number)
    sink = store.create_sink(0)
    with pytest.raises(BatchRejected):  # a batch is halved first
        sink.write(readings(6))
    for known in ([], [reading(0)]):
        assert sink.write(known) == len(known)
        with pytest.raises(RowSuspected) as suspected:
            sink.write([reading(POISON)])
        assert (suspected.value.errno, suspected.value.other_row_accepted) == (number, True)
    assert store.count_run_rows("run") == 1, "the rows to compare with are rolled back"
    refuse(database, "TRUE", number)
    with pytest.raises(RowSuspected) as suspected:
        sink.write([reading(POISON)])
    assert not suspected.value.other_row_accepted
    refuse(database, "NEW.device_id = 'run-1'", number)  # as where its shard is away
    with pytest.raises(RowSuspected) as suspected:
        sink.write([reading(POISON)])
    assert not suspected.value.other_row_accepted
    assert sink.write([reading(4, device_id="run-2")]) == 1
    sink.close()


@pytest.mark.parametrize(
    ("audit", "statement", "numbers"),
    [
        ("id INT PRIMARY KEY", "INSERT INTO audit VALUES (1)", {1062}),
        ("id INT, FOREIGN KEY (id) REFERENCES parents (id)", "INSERT INTO audit VALUES (7)", {1452}),
        ("name VARCHAR(2)", "INSERT INTO audit VALUES (NEW.metric)", {1406}),
        ("id INT NOT NULL", "INSERT INTO audit VALUES (NULL)", {1048}),
        ("id INT", "CALL nothing_there()", {1305}),
        ("id INT", "INSERT INTO audit VALUES (1)", {1814, 1030}),
    ],
    ids=["1062", "1452", "1406", "1048", "1305", "1814"],
)
def test_what_a_trigger_s_own_table_refuses_blames_no_row(
    store: MySqlStore, database: Database, audit: str, statement: str, numbers: set[int]
) -> None:
    run_as_root(
        database.server,
        "CREATE TABLE parents (id INT PRIMARY KEY)",
        f"CREATE TABLE audit ({audit})",
        *(["INSERT INTO audit VALUES (1)"] if 1062 in numbers else []),
        *(["ALTER TABLE audit DISCARD TABLESPACE"] if 1814 in numbers else []),
        database=database.name,
    )
    sink = store.create_sink(0)
    sink.write([reading(0)])
    run_as_root(
        database.server,
        f"CREATE TRIGGER copy BEFORE INSERT ON sensor_readings FOR EACH ROW {statement}",
        database=database.name,
    )
    with pytest.raises((RowSuspected, SinkUnavailable)) as refused:
        sink.write([reading(1)])
    assert getattr(refused.value, "errno", None) in numbers
    assert not getattr(refused.value, "other_row_accepted", False)
    run_as_root(database.server, "DROP TRIGGER copy", database=database.name)
    assert sink.write([reading(1)]) == 1
    sink.close()


def test_a_foreign_key_of_our_own_table_blames_the_row_at_once(store: MySqlStore, database: Database) -> None:
    run_as_root(
        database.server,
        "CREATE TABLE devices (id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY)",
        "INSERT INTO devices VALUES ('run-1')",
        "ALTER TABLE sensor_readings ADD FOREIGN KEY (device_id) REFERENCES devices (id)",
        database=database.name,
    )
    sink = store.create_sink(0)
    sink.write([reading(0)])
    # MySQL names the tables only to who has rights on the other one. Without the names, the row is suspected, and parked later.
    with pytest.raises(RowSuspected if is_oracle_mysql() else BatchRejected) as refused:
        sink.write([reading(1, device_id="unknown")])
    assert refused.value.errno == 1452  # type: ignore[attr-defined]
    assert getattr(refused.value, "other_row_accepted", True)
    sink.close()


def test_a_session_that_is_read_only_after_a_fail_over_is_waited_for(private_database_server: DatabaseServer) -> None:
    server = private_database_server
    variable = "transaction_read_only" if is_oracle_mysql() else "tx_read_only"
    with migrated(server) as store:
        sink = store.create_sink(0)
        run_as_root(server, f"SET GLOBAL {variable} = ON")
        try:
            with pytest.raises(SinkUnavailable) as away:
                sink.write(readings(1))
        finally:
            run_as_root(server, f"SET GLOBAL {variable} = OFF")
        assert away.value.errno == 1792
        assert "primary" in str(away.value)
        assert sink.write(readings(1)) == 1, "it connects again"
        sink.close()


def test_a_max_allowed_packet_that_was_lowered_blames_no_row(private_database_server: DatabaseServer) -> None:
    server = private_database_server
    with migrated(server) as store:
        before = run_as_root(server, "SELECT @@GLOBAL.max_allowed_packet")[0][0]
        run_as_root(server, "SET GLOBAL max_allowed_packet = 1024")
        try:
            sink = store.create_sink(0)
            for batch in (readings(50), readings(1)):
                with pytest.raises(SinkUnavailable, match="max_allowed_packet") as away:
                    sink.write(batch)
                assert away.value.errno == 1153
        finally:
            run_as_root(server, f"SET GLOBAL max_allowed_packet = {before}")
        assert sink.write(readings(50)) == 50, "the next try has a new session"
        sink.close()


MACHINES = TargetTable("machines", (Column("k", "text"), Column("n", "integer")), key=("k",))


def test_a_used_up_auto_increment_keeps_the_batch_and_is_announced_at_the_start(
    store: MySqlStore, database: Database
) -> None:
    run_as_root(
        database.server,
        "CREATE TABLE machines (id TINYINT AUTO_INCREMENT PRIMARY KEY, k VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        " NOT NULL, n BIGINT, UNIQUE KEY u (k))",
        database=database.name,
    )
    settings = database.server.settings("owner", database.name)
    run_as_root(database.server, f"GRANT ALL ON `{database.name}`.machines TO '{settings.user}'@'%'")
    owner = MySqlStore(settings, (MACHINES,))
    assert any("machines.id is tinyint" in line and "127" in line for line in owner.durability_warnings())
    run_as_root(database.server, "ALTER TABLE machines AUTO_INCREMENT = 120", database=database.name)
    assert any("is at 119 of 127" in line for line in owner.durability_warnings())
    run_as_root(database.server, "ALTER TABLE machines AUTO_INCREMENT = 127", database=database.name)
    sink = owner.create_sink(0)
    rows = [TableRow(MACHINES, (name, 1), None) for name in "abc"]
    assert sink.write(rows[:1]) == 1
    with pytest.raises(SinkUnavailable, match="AUTO_INCREMENT of machines is used up") as kept:
        sink.write(rows[1:2])
    assert "MODIFY `id` BIGINT UNSIGNED" in str(kept.value)
    with pytest.raises((SinkUnavailable, BatchRejected)):
        sink.write(rows)
    run_as_root(
        database.server,
        "ALTER TABLE machines MODIFY `id` BIGINT UNSIGNED NOT NULL AUTO_INCREMENT",
        database=database.name,
    )
    assert sink.write(rows) == 2
    assert not [line for line in owner.durability_warnings() if "AUTO_INCREMENT" in line]
    sink.close()
    owner.close()


def test_the_last_numbers_that_an_increment_skips_are_used_up_too(store: MySqlStore, database: Database) -> None:
    """As under group replication and Galera. MySQL answers 1264 there, as for a row."""
    server = database.server
    run_as_root(server, "SET GLOBAL auto_increment_increment = 7", "SET GLOBAL auto_increment_offset = 3")
    run_as_root(
        server,
        "CREATE TABLE machines (id SMALLINT AUTO_INCREMENT PRIMARY KEY, k VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        " NOT NULL, n BIGINT, UNIQUE KEY u (k))",
        "ALTER TABLE machines AUTO_INCREMENT = 32755",
        database=database.name,
    )
    try:
        with target_sink(database, MACHINES) as sink:
            for name in "abcd":  # the last ones find no number
                with contextlib.suppress(SinkUnavailable):
                    sink.write([TableRow(MACHINES, (name, 1), None)])
            with pytest.raises(SinkUnavailable, match="AUTO_INCREMENT"):
                sink.write([TableRow(MACHINES, ("e", 1), None)])
        with target_sink(database, MACHINES) as sink, pytest.raises(SinkUnavailable, match="AUTO_INCREMENT"):
            sink.write([TableRow(MACHINES, ("e", 1), None)])  # a process that has stored nothing in this table
    finally:
        run_as_root(server, "SET GLOBAL auto_increment_increment = 1", "SET GLOBAL auto_increment_offset = 1")


def test_an_integer_beyond_63_bits_is_stored_in_an_unsigned_column(store: MySqlStore, database: Database) -> None:
    run_as_root(
        database.server,
        "CREATE TABLE machines (k VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY, n BIGINT UNSIGNED)",
        database=database.name,
    )
    settings = database.server.settings("owner", database.name)
    run_as_root(database.server, f"GRANT ALL ON `{database.name}`.machines TO '{settings.user}'@'%'")
    owner = MySqlStore(settings, (MACHINES,))
    sink = owner.create_sink(0)
    assert sink.write([TableRow(MACHINES, ("a", 2**64 - 1), None)]) == 1
    assert run_as_root(database.server, "SELECT n FROM machines", database=database.name) == [(2**64 - 1,)]
    sink.close()
    owner.close()


TEXT = "VARCHAR(8) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
KEYS: dict[str, tuple[ColumnKind, str, tuple[ColumnValue, ...]]] = {
    "text": ("text", TEXT, ("a-1", "a-2", "a-3")),
    "number": ("integer", "SMALLINT", (1, 2, 3)),
    "time": ("time", "DATETIME(6)", tuple(f"2026-01-02 03:04:0{second}.000000" for second in (1, 2, 3))),
}


@contextlib.contextmanager
def target_sink(database: Database, table: TargetTable) -> Iterator[MySqlSink]:
    """A sink of the subscriber's account, which may do with `table` what `init-db --grants` allows."""
    settings = settings_for(database.server, database.name)
    run_as_root(
        database.server,
        f"GRANT SELECT, INSERT, UPDATE ON `{database.name}`.`{table.name}` TO '{settings.user}'@'%'",
    )
    with contextlib.closing(MySqlStore(settings, (table,))) as own, contextlib.closing(own.create_sink(0)) as sink:
        yield sink  # type: ignore[misc]


@pytest.mark.parametrize("kind", KEYS)
def test_what_the_own_table_of_an_after_insert_trigger_refuses_blames_no_row(
    store: MySqlStore, database: Database, kind: str
) -> None:
    """A row that is there already does not run the trigger: that the table accepts it again proves nothing."""
    column, type_, keys = KEYS[kind]
    table = TargetTable("t", (Column("k", column), Column("n", "integer")), key=("k",), conflict="last")
    run_as_root(
        database.server,
        f"CREATE TABLE t (k {type_} NOT NULL PRIMARY KEY, n BIGINT)",
        "CREATE TABLE audit (n TINYINT UNSIGNED, word VARCHAR(2), CHECK (n < 201)) PARTITION BY RANGE (n)"
        " (PARTITION p VALUES LESS THAN (250))",
        "INSERT INTO audit VALUES (200, 'a')",
        "CREATE TABLE strict (k INT NOT NULL)",
        database=database.name,
    )
    refused_by = {
        "UPDATE audit SET n = n + 100": {1264},
        "UPDATE audit SET n = n - 201": {1690},
        "UPDATE audit SET n = n + 1": {3819, 4025},
        "UPDATE audit SET n = 1 / (n - 200)": {1365},
        "INSERT INTO audit VALUES (1, 'long')": {1406},
        "INSERT INTO audit VALUES (251, 'a')": {1526, 3819, 4025},
        "INSERT INTO strict VALUES (NULL)": {1048},
    }
    with target_sink(database, table) as sink:
        sink.write([TableRow(table, (keys[0], 1), None)])
        for statement, numbers in refused_by.items():
            create = f"CREATE TRIGGER copy AFTER INSERT ON t FOR EACH ROW {statement}"
            run_as_root(database.server, create, database=database.name)
            with pytest.raises(RowSuspected) as refused:
                sink.write([TableRow(table, (keys[1], 2), None)])
            assert (refused.value.errno in numbers, refused.value.other_row_accepted) == (True, False), statement
            run_as_root(database.server, "DROP TRIGGER copy", database=database.name)
        assert sink.write([TableRow(table, (keys[1], 2), None)]) == 1


def test_a_trigger_that_finds_nothing_for_one_row_does_not_blame_it_at_once(
    store: MySqlStore, database: Database
) -> None:
    run_as_root(
        database.server,
        "CREATE TABLE names (device VARCHAR(64), name VARCHAR(64))",
        "INSERT INTO names VALUES ('run-1', 'one')",
        "CREATE TABLE audit (unit VARCHAR(64) NOT NULL)",
        "CREATE TRIGGER copy AFTER INSERT ON sensor_readings FOR EACH ROW"
        " INSERT INTO audit VALUES ((SELECT name FROM names WHERE device = NEW.device_id))",
        database=database.name,
    )
    sink = store.create_sink(0)
    sink.write([reading(0)])
    with pytest.raises(RowSuspected) as refused:
        sink.write([reading(1, device_id="not registered yet")])
    assert refused.value.errno == 1048
    sink.close()


@pytest.mark.parametrize(
    ("key", "good", "bad", "clause"),
    [
        (TEXT, "ab", "too long for it", ""),
        (TEXT, "ab", "ac", ", CHECK (k <> 'ac')"),
        ("ENUM('ab')", "ab", "ac", ""),
        (TEXT, "ab", "ac", ", FOREIGN KEY (k) REFERENCES parents (k)"),
        ("TINYINT", 5, 99999, ""),
        ("TINYINT", 5, 77, ", CHECK (k < 6)"),
        ("TINYINT", 5, 77, ") PARTITION BY LIST (k) (PARTITION p VALUES IN (5)"),
    ],
)
def test_a_row_whose_key_the_table_refuses_is_found_out(
    store: MySqlStore, database: Database, key: str, good: ColumnValue, bad: ColumnValue, clause: str
) -> None:
    column: ColumnKind = "text" if isinstance(good, str) else "integer"
    table = TargetTable("t", (Column("k", column), Column("n", "integer")), key=("k",))
    run_as_root(
        database.server,
        f"CREATE TABLE parents (k {TEXT} PRIMARY KEY)",
        "INSERT INTO parents VALUES ('ab')",
        f"CREATE TABLE t (k {key} NOT NULL PRIMARY KEY, n BIGINT{clause})",
        database=database.name,
    )
    with target_sink(database, table) as sink:
        sink.write([TableRow(table, (good, 1), None)])
        with pytest.raises((RowSuspected, BatchRejected)) as refused:
            sink.write([TableRow(table, (bad, 2), None)])
        assert getattr(refused.value, "other_row_accepted", True), "it is parked, at once or after a while"


class Box:
    """A dead-letter box that keeps letters in memory."""

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []

    def park(self, letters: Sequence[DeadLetter]) -> int:
        self.letters += letters
        return len(letters)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_poison_of_six_unknown_numbers_is_parked_within_two_minutes_while_good_rows_are_stored(
    store: MySqlStore, database: Database
) -> None:
    cases = " ".join(
        f"WHEN NEW.value = {1000 + place} THEN SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'no';"
        for place, number in enumerate(NUMBERS)
    )
    run_as_root(
        database.server,
        f"CREATE TRIGGER refuse BEFORE INSERT ON sensor_readings FOR EACH ROW CASE {cases} ELSE BEGIN END; END CASE",
        database=database.name,
    )

    def decode(delivery: Delivery) -> Reading:
        value = int(delivery.payload)
        return reading(value, value=float(value))

    stop = threading.Event()
    box = Box()
    writer = BatchWriter(
        0,
        MySqlSink(store._pool),
        box,
        decode,
        backoff=Backoff(0.1, 1.0),
        pause=lambda seconds: not stop.wait(seconds),
        breaker=RejectionBreaker(),
    )
    poison = [Delivery("t", b"%d" % (1000 + place), 1, 0.0, None) for place in range(len(NUMBERS))]
    good = iter(range(10_000, 10**6))
    writer.write(poison)
    sent = rounds = 0
    while len(box.letters) < len(NUMBERS) and rounds < 1200:
        rounds += 1
        batch = [Delivery("t", b"%d" % next(good), 1, 0.0, None) for _ in range(10)]
        report = writer.write(batch)
        assert not report.set_aside
        sent += report.messages_stored
        if writer.retry_due_in() == 0.0:
            writer.retry_set_aside()
        stop.wait(0.1)
    assert sorted(letter.errno or 0 for letter in box.letters) == sorted(NUMBERS)
    assert sent == rounds * 10, "good rows were stored at their own rate meanwhile"
    writer.close()
