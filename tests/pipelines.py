"""A pipeline under test: the real source and writers, with a database that the test holds in its hands."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sensorsync.config import Settings
from sensorsync.mqtt.subscriber.source import MqttSource
from sensorsync.pipeline.batcher import Batcher
from sensorsync.pipeline.contract import DeadLetter, DeadLetterBoxUnavailable, Delivery, Reading, Rejected, Row
from sensorsync.pipeline.counters import PipelineCounters
from sensorsync.pipeline.ingest import Ingest, IngestLimits
from sensorsync.pipeline.writer import BatchWriter, RejectionBreaker
from sensorsync.runtime.backoff import Backoff
from sensorsync.runtime.shutdown import GracefulShutdown
from tests.fakes.broker import FakeBroker

CLIENT = "sensorsync-test-0-0"
"""The client id of the first link of `running()`."""


def decode(delivery: Delivery) -> Reading | Rejected:
    """The payload is the event id; `bad...` is no reading."""
    if delivery.payload.startswith(b"bad"):
        return Rejected("json", "not JSON")
    return Reading(delivery.payload, "d", "m", "2026-01-01 00:00:00.000000", 1.0, None, None, delivery.topic, 0.0, "{}")


class Database:
    """Holds each COMMIT until the gate is open; then remembers what was stored, in order."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Semaphore(0)
        """Released once for each transaction that stands at the gate."""
        self.rows: list[bytes] = []
        self._lock = threading.Lock()
        self.before_commit: Callable[[Sequence[Reading]], None] = lambda _: None

    def write(self, rows: Sequence[Row]) -> int:
        readings = [row for row in rows if isinstance(row, Reading)]
        self.waiting.release()
        self.before_commit(readings)
        self.gate.wait(30)
        with self._lock:
            new = {reading.event_id for reading in readings}.difference(self.rows)
            self.rows += [reading.event_id for reading in readings]
        return len(new)

    def close(self) -> None:
        pass


class Box:
    """A dead-letter box that can be away."""

    def __init__(self) -> None:
        self.available = True
        self.letters: list[DeadLetter] = []

    def park(self, letters: Sequence[DeadLetter]) -> int:
        if not self.available:
            raise DeadLetterBoxUnavailable("disk full")
        self.letters += letters
        return len(letters)


@dataclass
class Running:
    """A pipeline that runs in the test's loop."""

    settings: Settings
    meter: PipelineCounters
    source: MqttSource
    stop: GracefulShutdown
    task: asyncio.Task[None]
    database: Database
    box: Box = field(default_factory=Box)

    async def until(self, condition: Callable[[], bool], timeout: float = 60.0) -> None:
        """Return once `condition()` holds; a pipeline that ended with an error raises it here."""
        async with asyncio.timeout(timeout):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.005)

    async def end(self) -> None:
        """Stop softly and wait for the end."""
        self.stop.request("test")
        await self.task


async def subscribed(broker: FakeBroker, pipeline: Running, links: int = 1) -> None:
    """Return once so many sessions are subscribed and all links are up."""
    await pipeline.until(
        lambda: (
            pipeline.source.connected
            and sum(bool(session.subscriptions) for session in broker.sessions.values()) >= links
        )
    )


async def standing_at_the_gate(database: Database) -> None:
    """Return once a transaction waits for its COMMIT."""
    assert await asyncio.to_thread(database.waiting.acquire, timeout=60)


async def send(broker: FakeBroker, count: int, payload: bytes = b"%d") -> None:
    """Publish messages 0 to `count` - 1; `payload` is a template."""
    for number in range(count):
        await broker.publish("t/x", payload % number)


def everything(count: int, payload: bytes = b"%d") -> set[bytes]:
    """The payloads of so many messages."""
    return {payload % number for number in range(count)}


def kept(broker: FakeBroker) -> set[bytes]:
    """The payloads that the broker still holds."""
    return {message.payload for session in broker.sessions.values() for message in session.undelivered()}


@asynccontextmanager
async def running(
    port: int,
    state: Path,
    *,
    limits: IngestLimits | None = None,
    workers: int = 2,
    batch_size: int = 1000,
    database: Database | None = None,
    box: Box | None = None,
    **mqtt: object,
) -> AsyncIterator[Running]:
    """Run a pipeline against the broker on 127.0.0.1:port until the block ends."""
    settings = Settings.model_validate(
        {
            "mqtt": {
                "host": "127.0.0.1",
                "port": port,
                "instance": "test",
                "topics": ["t/#"],
                "backoff_min": 0.01,
                "backoff_max": 0.1,
                "drain_quiet": 0.1,
                **mqtt,
            },
            "pipeline": {"workers": workers, "batch_size": batch_size},
            "state_dir": str(state),
        }
    )
    meter = PipelineCounters(0.0)
    refusals = RejectionBreaker()
    database = database or Database()
    box = box or Box()
    source = MqttSource(settings, meter)

    def make_writer(number: int, pause: Callable[[float], bool]) -> BatchWriter:
        return BatchWriter(number, database, box, decode, backoff=Backoff(0.01, 0.05), pause=pause, breaker=refusals)

    with GracefulShutdown() as stop:
        ingest = Ingest(
            source,
            Batcher(batch_size, settings.pipeline.batch_timeout),
            make_writer,
            workers=workers,
            counters=meter,
            limits=limits or IngestLimits(stop_timeout=5.0),
        )
        task = asyncio.create_task(ingest.run(stop))
        pipeline = Running(settings, meter, source, stop, task, database, box)
        try:
            yield pipeline
        finally:
            database.gate.set()
            stop.request("test is over")
            await asyncio.wait([task], timeout=60)
            if not task.cancelled() and task.done():
                task.exception()  # a test that cares awaits `end()`
