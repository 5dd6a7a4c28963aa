"""The services that other tests stand on start, die and come back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pymysql
import pytest

from tests.conftest import Database, need
from tests.services import Certificates, DatabaseServer, Mosquitto, eventually


def test_a_killed_broker_comes_back_on_the_same_port(mosquitto: Mosquitto) -> None:
    port, first = mosquitto.port, mosquitto.pid
    mosquitto.kill()
    assert not mosquitto.answers()
    mosquitto.start()
    assert (mosquitto.port, mosquitto.answers()) == (port, True)
    assert mosquitto.pid != first


@pytest.mark.broker
def test_a_broker_with_users_and_tls_answers_on_both_listeners(certificates: Certificates) -> None:
    need(Mosquitto)
    with Mosquitto(users={"alice": "secret"}, tls=certificates, max_inflight=20, persistence=True) as broker:
        assert _connack(broker, "alice", "secret") == 0
        assert _connack(broker, "alice", "wrong") == 5


def test_a_frozen_broker_keeps_silent_until_it_is_thawed(mosquitto: Mosquitto) -> None:
    mosquitto.freeze()
    assert not mosquitto.answers()
    mosquitto.thaw()
    assert mosquitto.answers()


def test_rows_survive_the_kill_of_the_database(private_database_server: DatabaseServer) -> None:
    server = private_database_server
    with server.connect(database=server.name) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (i INT PRIMARY KEY) ENGINE=InnoDB")
        cursor.execute("INSERT INTO t VALUES (42)")
        server.kill()
        with pytest.raises(pymysql.err.OperationalError):
            cursor.execute("SELECT 1")
    server.start()
    with server.connect(database=server.name) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT i FROM t")
        assert cursor.fetchall() == ((42,),)


def test_each_test_gets_an_empty_database_of_its_own(database: Database) -> None:
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW TABLES")
        assert cursor.fetchall() == ()
        cursor.execute("CREATE TABLE mine (i INT)")


@pytest.mark.broker
def test_a_service_dies_with_the_process_that_started_it() -> None:
    need(Mosquitto)
    program = (
        "import sys; from tests.services import Mosquitto; print(Mosquitto().start().pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    with parent:
        assert parent.stdout is not None
        broker = int(parent.stdout.readline())
        assert _alive(broker)
        parent.send_signal(signal.SIGKILL)
    eventually(lambda: not _alive(broker), "the broker is dead")


def test_a_service_outlives_the_thread_that_started_it(mosquitto: Mosquitto) -> None:
    mosquitto.kill()
    thread = threading.Thread(target=mosquitto.start)
    thread.start()
    thread.join()
    assert mosquitto.answers()


def _alive(pid: int) -> bool:
    """Whether the process runs; one that ended and that nobody reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    try:
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _connack(broker: Mosquitto, user: str, password: str) -> int:
    """The return code of a CONNECT with this name and password (MQTT 3.1.1, table 3.1)."""
    fields = b"".join(len(word).to_bytes(2, "big") + word.encode() for word in ("probe", user, password))
    body = b"\x00\x04MQTT\x04\xc2\x00\x0a" + fields
    with socket.create_connection((broker.host, broker.port), 5) as connection:
        connection.sendall(b"\x10" + bytes([len(body)]) + body)
        return connection.recv(4)[3]
