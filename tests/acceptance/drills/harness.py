"""A drill: a load on its way from `stress-publish` through a broker and `subscribe` into a database, a fault, and an audit.

    with drill.load() as load:
        load.reaches(2_000)         # rows are stored: it is under way
        drill.database.kill()       # the fault
        load.says("kept")           # the subscriber has felt it
        drill.database.start()      # healed
        load.finishes()             # everything published is stored, and the subscriber ends softly
    drill.audit()                   # 0 missing, no duplicate rows

Publisher and subscriber are processes, broker and database are private servers. Conditions are awaited, never a time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pymysql

from tests.acceptance.drills.load import Load
from tests.acceptance.drills.pace import ACK_DELAY, CLIENTS, Pace
from tests.commands import Commands
from tests.fakes import InThread
from tests.services import DatabaseServer, Mosquitto

MESSAGES = 6_000
"""In a load, unless a drill says otherwise."""
RUN = "drill"
SENSORSYNC = (sys.executable, "-m", "sensorsync")

_QUICK = {
    # Time-outs as they are by default, but scaled to a drill: they still fit into each other.
    "SENSORSYNC_DATABASE__WAIT_FOR_DATABASE": "yes",  # a server that pauses longer than that at the start is no drill
    "SENSORSYNC_DATABASE__CONNECT_TIMEOUT": "1s",
    "SENSORSYNC_DATABASE__LOCK_WAIT_TIMEOUT": "1s",
    "SENSORSYNC_DATABASE__READ_TIMEOUT": "1500ms",
    "SENSORSYNC_PIPELINE__STOP_TIMEOUT": "8s",
    "SENSORSYNC_PIPELINE__BACKOFF_MIN": "20ms",
    "SENSORSYNC_PIPELINE__BACKOFF_MAX": "200ms",
    "SENSORSYNC_MQTT__KEEP_ALIVE": "8s",
    "SENSORSYNC_MQTT__CONNECT_TIMEOUT": "8s",
    "SENSORSYNC_MQTT__BACKOFF_MIN": "20ms",
    "SENSORSYNC_MQTT__BACKOFF_MAX": "200ms",
    # Small batches: a fault meets many of them.
    "WORKER_BATCH_SIZE": "200",
    "SENSORSYNC_LOG__FORMAT": "json",
    "SENSORSYNC_SIGNING_KEY": "a-test-key-of-at-least-32-bytes-of-length",
    "SENSORSYNC_SECURITY__SIGNATURES": "required",
}
_PATIENT = {"SENSORSYNC_MQTT__KEEP_ALIVE": "60s", "SENSORSYNC_MQTT__CONNECT_TIMEOUT": "60s"}
"""For the publisher, which is made to wait."""


class Drill:
    """A private broker, a private database with its schema, and a place for state. A context manager.

    `environment` holds settings for all commands; `program` are the words that run sensorsync.
    """

    def __init__(
        self,
        folder: Path,
        *,
        broker: Mosquitto | None = None,
        database: DatabaseServer | None = None,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = SENSORSYNC,
        messages: int = MESSAGES,
    ) -> None:
        self.messages = messages
        self.folder = folder
        self.broker = broker or Mosquitto()
        self.database = database or DatabaseServer()
        self.program = program
        self._more = dict(environment or {})
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with self._open as opened:
            opened.enter_context(self.broker)
            opened.enter_context(self.database)
            self.environment = {
                **_QUICK,
                "MQTT_BROKER": f"{self.broker.host}:{self.broker.port}",
                **self.database.environment(),
                "SENSORSYNC_STATE_DIR": str(self.folder / "state"),
                **self._more,
            }
            self.database.prepare()
            self._open = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def dead_letters(self) -> Path:
        """The file of the dead-letter box."""
        return self.folder / "state" / "dead-letters.sqlite"

    def sql(self, *statements: str) -> tuple[tuple[Any, ...], ...]:
        """Run statements as root in the database; the rows of the last one."""
        with self.database.connect(database=self.database.name) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall()

    def stored(self) -> int:
        """Rows in the table."""
        return int(self.sql("SELECT COUNT(*) FROM sensor_readings")[0][0])

    def connections(self) -> list[int]:
        """The server's ids of the subscriber's connections."""
        listed = "SELECT id FROM information_schema.processlist WHERE user = '{}' AND db = '{}'"
        return [int(row[0]) for row in self.sql(listed.format(self.database.user, self.database.name))]

    def kill_connections(self) -> None:
        """End the subscriber's connections, from the server's side."""
        for number in self.connections():
            with suppress(pymysql.OperationalError):  # it has gone since
                self.sql(f"KILL {number}")

    def poison(self, *, every: int) -> int:
        """From now on the database refuses one in `every` messages of each client for what is in it; how many of a load."""
        seq = "CAST(JSON_EXTRACT(payload, '$.seq') AS UNSIGNED)"
        self.sql(f"ALTER TABLE sensor_readings ADD CONSTRAINT poison CHECK (MOD({seq}, {every}) <> 7)")
        share = self.messages // CLIENTS
        return CLIENTS * len(range(7, share, every))

    @contextmanager
    def load(self, *, program: Sequence[str] | None = None, **changes: object) -> Iterator[Load]:
        """A subscriber, then the messages at some thousand a second. `changes` are settings of the subscriber: `DB_PORT=1234`."""
        settings = {name: str(value) for name, value in changes.items()}
        load = self._load(Commands({**self.environment, **settings}, program or self.program))
        with InThread(Pace(self.broker.port, delay_down=ACK_DELAY, most=self.messages // 2)) as pace:
            paced = {"MQTT_BROKER": f"127.0.0.1:{pace.port}", **_PATIENT}
            publishing = Commands({**self.environment, **paced})
            try:
                load.publisher = publishing.start(
                    self.folder / "publisher.log",
                    *("stress-publish", "--messages", str(self.messages), "--run", RUN, "--json"),
                    *("--processes", "1", "--clients", str(CLIENTS)),
                )
                load.start()
                pace.do(lambda p: p.begin())
                load.pace = pace
                yield load
            finally:
                load.kill()

    @contextmanager
    def storm(self) -> Iterator[Load]:
        """No subscriber, but its session, in which all the messages wait."""
        commands = Commands(self.environment, self.program)
        load = self._load(commands)
        try:
            load.start()
            load.stops()
            published = commands.run("stress-publish", "--messages", str(self.messages), "--run", RUN, "--json")
            assert published.data["acked"] == self.messages
            yield load
        finally:
            load.kill()

    def _load(self, commands: Commands) -> Load:
        return Load(commands, self.folder / "subscriber.log", self.messages, self.stored)

    def audit(self, *, parked: int = 0, may_lose: bool = False) -> dict[str, Any]:
        """Nothing is missing, no row is twice or corrupt, and what is not stored is `parked`. Returns what the audit found."""
        done = Commands(self.environment, self.program).run("audit", RUN, "--json", check=False)
        found = done.data
        wrong = {name: found[name] for name in ("corrupt", "duplicates") if found[name]}
        assert not wrong, f"{wrong}: {found['corrupt_examples']}"
        assert found["messages"] == self.messages
        assert found["stored"] == self.stored(), "rows that are no message of the run"
        assert found["parked"] == parked
        assert found["stored"] + found["parked"] + found["missing"] == self.messages
        if not may_lose:
            assert found["missing"] == 0, found["missing_ranges"][:10]
            assert done.exit_code == 0
        return found
