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

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sensorsync.config import load as load_settings
from sensorsync.drivers import open_store
from tests.commands import Background, Commands
from tests.fakes import InThread, TcpProxy
from tests.fakes.proxy import Link
from tests.services import DatabaseServer, Mosquitto

MESSAGES = 6_000
"""In a load, unless a drill says otherwise."""
RUN = "drill"
SENSORSYNC = (sys.executable, "-m", "sensorsync")

_CLIENTS, _ACK_DELAY, _ACK_BYTES = 16, 0.05, 4
_PATIENCE = 40.0
_GLANCE = 0.04
_QUICK = {
    # Time-outs as they are by default, but scaled to a drill: they still fit into each other.
    "SENSORSYNC_DATABASE__CONNECT_TIMEOUT": "1s",
    "SENSORSYNC_DATABASE__LOCK_WAIT_TIMEOUT": "1s",
    "SENSORSYNC_DATABASE__READ_TIMEOUT": "1500ms",
    "SENSORSYNC_PIPELINE__STOP_TIMEOUT": "8s",
    "SENSORSYNC_PIPELINE__BACKOFF_MIN": "20ms",
    "SENSORSYNC_PIPELINE__BACKOFF_MAX": "200ms",
    "SENSORSYNC_MQTT__KEEP_ALIVE": "2s",
    "SENSORSYNC_MQTT__CONNECT_TIMEOUT": "2s",
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


@dataclass(eq=False)
class Pace(TcpProxy):
    """The publisher's way to the broker. mosquitto's window is 20 and PUBACKs come late: 16 x 20 / 0.05 s = 6,400/s at most.

    Nothing passes before `begin`. All but the first `most` messages wait until `go_on`: however slow the machine is, a load is not
    over before its fault.
    """

    most: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._passed = 0
        self._begun, self._free = asyncio.Event(), asyncio.Event()

    async def upward(self, link: Link, data: bytes) -> bytes:
        await self._begun.wait()
        return data

    async def downward(self, link: Link, data: bytes) -> bytes:
        self._passed += len(data)
        if self._passed > self.most * _ACK_BYTES:
            await self._free.wait()
        return data

    def begin(self) -> None:
        """The subscriber is there."""
        self._begun.set()

    def go_on(self) -> None:
        """Hold nothing back any more."""
        self._free.set()


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
                "DB_HOST": self.database.host,
                "DB_PORT": str(self.database.port),
                "DB_USER": self.database.user,
                "DB_PASSWORD": self.database.password,
                "DB_NAME": self.database.name,
                "SENSORSYNC_STATE_DIR": str(self.folder / "state"),
                **self._more,
            }
            settings = load_settings(None, {}, environ=self.environment, cwd=self.folder).settings
            with closing(open_store(settings.database)) as store:
                store.migrate()
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

    def poison(self, *, every: int) -> int:
        """From now on the database refuses one in `every` messages of each client for what is in it; how many of a load."""
        seq = "CAST(JSON_EXTRACT(payload, '$.seq') AS UNSIGNED)"
        self.sql(f"ALTER TABLE sensor_readings ADD CONSTRAINT poison CHECK (MOD({seq}, {every}) <> 7)")
        share = self.messages // _CLIENTS
        return _CLIENTS * len(range(7, share, every))

    @contextmanager
    def load(self, *, program: Sequence[str] | None = None, **changes: object) -> Iterator[Load]:
        """A subscriber, then the messages at some thousand a second. `changes` are settings of the subscriber: `DB_PORT=1234`."""
        settings = {name: str(value) for name, value in changes.items()}
        load = Load(self, Commands({**self.environment, **settings}, program or self.program))
        with InThread(Pace(self.broker.port, delay_down=_ACK_DELAY, most=self.messages // 2)) as pace:
            paced = {"MQTT_BROKER": f"127.0.0.1:{pace.port}", **_PATIENT}
            publishing = Commands({**self.environment, **paced})
            try:
                load.publisher = publishing.start(
                    self.folder / "publisher.log",
                    *("stress-publish", "--messages", str(self.messages), "--run", RUN, "--json"),
                    *("--processes", "1", "--clients", str(_CLIENTS)),
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
        load = Load(self, commands)
        try:
            load.start()
            load.stops()
            published = commands.run("stress-publish", "--messages", str(self.messages), "--run", RUN, "--json")
            assert published.data["acked"] == self.messages
            yield load
        finally:
            load.kill()

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


class Load:
    """Messages on their way: a publisher, and a subscriber that may end and begin again."""

    def __init__(self, drill: Drill, commands: Commands) -> None:
        self.publisher: Background | None = None
        self.pace: InThread[Pace] | None = None
        self._drill = drill
        self._commands = commands
        self._log = drill.folder / "subscriber.log"
        self._log.touch()
        self._subscriber: Background | None = None
        self._mark = 0

    @property
    def subscriber(self) -> Background:
        """The one that runs, or ran last."""
        assert self._subscriber is not None, "not started"
        return self._subscriber

    # -- the story -----------------------------------------------------------------------------------------------------

    def start(self, *words: str, **changes: object) -> None:
        """Start a subscriber, with changed settings from now on; return once it is subscribed."""
        if self._subscriber is not None:
            assert not self._subscriber.running, "there is one already"
            self._subscriber.kill()
        self._mark_here()
        self._commands.environment |= {name: str(value) for name, value in changes.items()}
        self._subscriber = self._commands.start(self._log, "subscribe", *words)
        self.says("connected")

    def reaches(self, rows: int) -> None:
        """Return once so many rows are stored, up to a half: the moment for a fault. The other half comes when it is waited for."""
        assert rows < self._drill.messages // 2
        self._wait(lambda: self._drill.stored() >= rows, f"{rows} rows")
        self._mark_here()

    def stores(self, rows: int) -> None:
        """Return once so many rows are stored."""
        self.waits(lambda: self._drill.stored() >= rows, f"{rows} rows")

    def says(self, event: str, *, times: int = 1, **fields: object) -> list[dict[str, Any]]:
        """Return once the subscriber has logged `event`, with these fields, so many times since it last reached a point."""
        found: list[dict[str, Any]] = []

        def enough() -> bool:
            found[:] = [e for e in self._since() if e["event"] == event and fields.items() <= e.items()]
            return len(found) >= times

        self.waits(enough, f"{times} times {event} {fields or ''}", alive=event != "stopped")
        return found

    def ends(self, exit_code: int) -> None:
        """Return once the subscriber has ended by itself, in this way."""
        self.waits(lambda: not self.subscriber.running, "the end of the subscriber", alive=False)
        assert self.subscriber.finish().exit_code == exit_code, self._tail()

    def insists(self, number: signal.Signals) -> None:
        """Send the subscriber this signal, again and again, until it has died of it."""

        def again() -> bool:
            self.subscriber.send(number)
            return not self.subscriber.running

        self.waits(again, "the end of the subscriber", alive=False)
        self.ends(-number)

    def kill(self) -> None:
        """`kill -9` of whatever runs."""
        for process in (self._subscriber, self.publisher):
            if process is not None:
                process.kill()

    def stops(self, number: signal.Signals = signal.SIGTERM, exit_code: int = 0) -> dict[str, Any]:
        """Ask the subscriber to stop; returns what it reports at its end."""
        self._mark_here()
        self.subscriber.send(number)
        self.ends(exit_code)
        return self.says("stopped")[-1]

    def publishes(self) -> dict[str, Any]:
        """Return once everything is published, as the publisher reports it."""
        assert self.publisher is not None, "not started"
        self._go_on()
        return self.publisher.finish(_PATIENCE).data

    def finishes(self, *, parked: int = 0) -> dict[str, Any]:
        """Return once everything is published and stored or parked, and the subscriber has stopped softly; its report."""
        published = self.publishes()
        assert published["acked"] == self._drill.messages, published
        self.stores(self._drill.messages - parked)
        stopped = self.stops()
        assert stopped["unacknowledged"] == 0, stopped
        return stopped

    def waits(self, condition: Callable[[], bool], what: str, *, alive: bool = True) -> None:
        """Return once `condition()` holds; meanwhile the subscriber must live on, unless it need not be `alive`."""
        self._go_on()
        self._wait(condition, what, alive=alive)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        if self.pace is not None:
            self.pace.do(lambda pace: pace.go_on())

    def _wait(self, condition: Callable[[], bool], what: str, *, alive: bool = True) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert not alive or self.subscriber.running, f"the subscriber ended before {what}:\n{self._tail()}"
            assert time.monotonic() < deadline, f"not within {_PATIENCE:g} s: {what}\n{self._tail()}"
            time.sleep(_GLANCE)

    def _mark_here(self) -> None:
        self._mark = self._log.stat().st_size

    def _since(self) -> list[dict[str, Any]]:
        with self._log.open() as log:
            log.seek(self._mark)
            return [json.loads(line) for line in log if line.startswith("{") and line.endswith("}\n")]

    def _tail(self) -> str:
        return self._log.read_text()[-6000:]
