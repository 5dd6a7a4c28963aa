"""docs/how-to/migrate-table.md: its statements do what it says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pymysql
import pytest

from tests.conftest import Database

PAGE = Path(__file__).parents[2] / "docs/how-to/migrate-table.md"
VIEW, COPY = (
    re.sub(r"\s+", " ", sql) for sql in re.findall(r"```sql\n(.*?);\n *```", PAGE.read_text("utf-8"), re.DOTALL)
)
OLD = [(17, "Kühlraum 7", "2026-07-01 12:00:00.250000", 4.5), (18, "boiler-1", "2026-07-01 12:00:01", None)]


@pytest.fixture
def old_table(database: Database) -> Database:
    database.prepare()
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE old_readings (id INT PRIMARY KEY, sensor VARCHAR(50) CHARACTER SET latin1, quantity VARCHAR(50),"
            " measured_at DATETIME(6), reading DOUBLE)"
        )
        cursor.executemany("INSERT INTO old_readings VALUES (%s, %s, 'temperature', %s, %s)", OLD)
    return database


def test_rows_are_copied_and_a_second_run_changes_nothing(old_table: Database) -> None:
    with old_table.connect() as connection, connection.cursor() as cursor:
        for expected in (2, 0):
            assert cursor.execute(COPY.replace("Europe/Berlin", "+02:00")) == expected
        cursor.execute("SELECT device_id, event_id, CAST(ts AS CHAR), value FROM sensor_readings ORDER BY value DESC")
        rows = cursor.fetchall()
    assert rows == (
        ("Kühlraum 7", hashlib.sha256(b"old-17").digest()[:16], "2026-07-01 10:00:00.250000", 4.5),
        ("boiler-1", hashlib.sha256(b"old-18").digest()[:16], "2026-07-01 10:00:01.000000", None),
    )


def test_a_time_zone_that_the_server_does_not_know_fails_and_copies_nothing(old_table: Database) -> None:
    with old_table.connect() as connection, connection.cursor() as cursor:
        with pytest.raises(pymysql.Error, match="1048"):
            cursor.execute(COPY)
        cursor.execute("SELECT COUNT(*) FROM sensor_readings")
        assert cursor.fetchone() == (0,)


def test_the_view_shows_both_tables(old_table: Database) -> None:
    with old_table.connect() as connection, connection.cursor() as cursor:
        cursor.execute(VIEW.replace("2026-01-01", "2027-01-01"))
        assert cursor.execute("SELECT * FROM all_readings") == 2
