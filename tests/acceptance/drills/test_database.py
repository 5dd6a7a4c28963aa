"""Drills on the database: it goes away, hangs, refuses, fills up, loses a column or our password. Nothing is lost or stored twice."""

from __future__ import annotations

from contextlib import suppress

import pymysql
import pytest

from tests.acceptance.drills.harness import MESSAGES, Drill
from tests.fakes import Fault, InThread, MySqlProxy, TcpProxy

pytestmark = [pytest.mark.acceptance, pytest.mark.broker, pytest.mark.database, pytest.mark.timeout(360)]

PLAIN = {"SENSORSYNC_DATABASE__TLS__MODE": "disabled"}
"""The proxy that reads statements cannot look into TLS."""


def test_a_database_that_stops_is_waited_for(drill: Drill) -> None:
    with drill.load() as load:
        load.reaches(1_500)
        drill.database.stop()
        load.says("kept", times=4)
        drill.database.start()
        load.finishes()
    drill.audit()


def test_a_database_killed_with_sigkill_is_waited_for(drill: Drill) -> None:
    with drill.load() as load:
        load.reaches(1_500)
        drill.database.kill()
        load.says("kept", times=4)
        drill.database.start()
        load.finishes()
    drill.audit()


def test_a_database_restarted_under_load_costs_nothing_but_time(drill: Drill) -> None:
    with drill.load() as load:
        load.reaches(1_500)
        drill.database.restart()
        load.says("kept")
        load.finishes()
    drill.audit()


def test_a_frozen_database_is_given_up_after_the_read_timeout_and_found_again(drill: Drill) -> None:
    with drill.load() as load:
        load.reaches(1_500)
        drill.database.freeze()
        load.says("kept", errno=2013)
        load.says("kept", times=4)
        drill.database.thaw()
        load.finishes()
    drill.audit()


def test_a_read_only_database_is_waited_for_and_the_way_back_is_found(drill: Drill) -> None:
    with drill.load() as load:
        load.reaches(1_500)
        drill.sql("SET GLOBAL read_only = ON")
        load.says("kept", errno=1290, times=3)
        drill.sql("SET GLOBAL read_only = OFF")
        load.finishes()
    drill.audit()


def test_a_server_without_a_free_connection_is_waited_for(drill: Drill) -> None:
    others: list[pymysql.connections.Connection[pymysql.cursors.Cursor]] = []
    with drill.load() as load:
        load.reaches(1_500)
        with drill.database.connect() as root, root.cursor() as cursor:
            account = {"user": drill.database.user, "password": drill.database.password}
            others += [drill.database.connect(**account) for _ in range(12)]
            # From now on the others alone are more than the server allows: ours, once killed, cannot come back.
            ours = drill.connections()
            cursor.execute("SET GLOBAL max_connections = 10")
            for number in ours:
                with suppress(pymysql.OperationalError):  # it has gone since
                    cursor.execute(f"KILL {number}")
            load.says("kept", errno=1040, times=3)
        for other in others:
            other.close()
        load.finishes()
    drill.audit()


def test_a_pool_smaller_than_the_writers_delays_but_strands_nothing(drill: Drill) -> None:
    with drill.load(CONNECTION_POOL_SIZE=1) as load:
        load.says("pool_exhausted")
        load.finishes()
    drill.audit()


def test_a_database_behind_a_black_hole_is_given_up_and_lets_go_of_our_locks(drill: Drill) -> None:
    with InThread(MySqlProxy(drill.database.port)) as proxy, drill.load(DB_PORT=proxy.port, **PLAIN) as load:
        load.reaches(1_500)
        # The worst moment: the server has the rows, locked, and waits for a COMMIT that never comes.
        proxy.do(lambda p: p.break_at(Fault.SWALLOW, "COMMIT"))
        load.says("kept", errno=2013)
        proxy.do(lambda p: p.swallow())
        load.says("kept", times=3)
        proxy.do(lambda p: p.heal())
        load.finishes()
    drill.audit()


@pytest.mark.long
def test_a_database_a_fifth_of_a_second_away_is_slow_and_whole(drill: Drill) -> None:
    far = TcpProxy(drill.database.port, delay_up=0.1, delay_down=0.1)
    with InThread(far) as proxy, drill.load(DB_PORT=proxy.port, WORKER_BATCH_SIZE=1000) as load:
        load.finishes()
    drill.audit()


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
def test_a_commit_whose_answer_is_lost_is_done_again_and_no_row_is_there_twice(drill: Drill, fault: Fault) -> None:
    with InThread(MySqlProxy(drill.database.port)) as proxy, drill.load(DB_PORT=proxy.port, **PLAIN) as load:
        load.reaches(1_500)
        proxy.do(lambda p: p.break_at(fault, "COMMIT", times=5))
        load.says("kept", times=5)
        stopped = load.finishes()
    assert (stopped["stored"], stopped["redelivered"], stopped["reconnects"]) == (MESSAGES, 0, 0)
    drill.audit()


def test_a_poison_row_in_every_batch_is_parked_and_the_others_are_stored(drill: Drill) -> None:
    poison = drill.poison(every=100)
    with drill.load() as load:
        stopped = load.finishes(parked=poison)
    assert (stopped["stored"], stopped["parked_by_reason"]) == (MESSAGES - poison, {"database": poison})
    drill.audit(parked=poison)


DROP, MEND = (
    "ALTER TABLE sensor_readings DROP COLUMN unit",
    "ALTER TABLE sensor_readings ADD COLUMN unit VARCHAR(64) NULL",
)


def test_a_column_dropped_under_load_stops_the_subscriber_and_the_next_one_has_it_all(drill: Drill) -> None:
    with drill.load(SENSORSYNC_DATABASE__WAIT_FOR_DATABASE="no") as load:
        load.reaches(1_500)
        drill.sql(DROP)
        load.ends(4)
        drill.sql(MEND)
        load.start()
        load.finishes()
    drill.audit()


def test_a_column_dropped_under_load_is_waited_for_when_asked_to(drill: Drill) -> None:
    with drill.load() as load:
        load.reaches(1_500)
        drill.sql(DROP)
        load.says("kept", errno=1054, times=3)
        drill.sql(MEND)
        load.finishes()
    drill.audit()


def test_a_collation_changed_under_load_keeps_the_batches_until_it_is_changed_back(drill: Drill) -> None:
    column = "ALTER TABLE sensor_readings MODIFY device_id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE {} NOT NULL"
    with drill.load(SENSORSYNC_DATABASE__WAIT_FOR_DATABASE="no") as load:
        load.reaches(1_500)
        drill.sql(column.format("utf8mb4_general_ci"))
        load.says("table_changed")
        load.says("kept", times=3)
        drill.sql(column.format("utf8mb4_bin"))
        load.finishes()
    drill.audit()


def test_a_changed_password_stops_the_subscriber_and_the_new_one_brings_it_all(drill: Drill) -> None:
    with drill.load(SENSORSYNC_DATABASE__WAIT_FOR_DATABASE="no") as load:
        load.reaches(1_500)
        drill.sql(f"ALTER USER '{drill.database.user}'@'%' IDENTIFIED BY 'another'")
        drill.kill_connections()
        load.ends(4)
        drill.environment["DB_PASSWORD"] = "another"
        load.start(DB_PASSWORD="another")
        load.finishes()
    drill.audit()


@pytest.mark.long
def test_a_changed_password_is_waited_for_when_asked_to(drill: Drill) -> None:
    user = f"ALTER USER '{drill.database.user}'@'%' IDENTIFIED BY"
    with drill.load() as load:
        load.reaches(1_500)
        drill.sql(f"{user} 'another'")
        drill.kill_connections()
        load.says("kept", errno=1045, times=3)
        drill.sql(f"{user} '{drill.database.password}'")
        load.finishes()
    drill.audit()
