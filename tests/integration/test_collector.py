"""The collector of cycles looks seldom, and has nothing to find: nothing of a message is part of a cycle."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path

import pytest
from mqtt5 import PubAckReasonCode

from sensorsync.config import Settings
from sensorsync.loadtest import GeneratedMessages, Run
from sensorsync.messages.reading import Reading, Rejected
from sensorsync.mqtt.client.options import ConnectOptions
from sensorsync.mqtt.publisher.publisher import Publisher
from sensorsync.pipeline.contract import Delivery
from sensorsync.runtime.process import GC_THRESHOLD
from sensorsync.wiring import message_decoder, message_encoder
from tests.commands import Commands
from tests.conftest import Mosquitto
from tests.fakes import FakeBroker
from tests.pipelines import kept, running, send, subscribed

MESSAGES = 2000
KEY = {"keys": [{"id": "k", "secret": "a-test-key-of-at-least-32-bytes-of-length"}]}


@contextmanager
def hardly_any_garbage() -> Iterator[None]:
    """What the block leaves behind in cycles is less than an object for ten messages."""
    gc.collect()
    gc.disable()
    try:
        yield
        assert gc.collect() < MESSAGES / 10
    finally:
        gc.enable()


def test_messages_that_are_received_stored_and_acknowledged_leave_no_cycles(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker(queue_limit=None) as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            with hardly_any_garbage():
                await send(broker, MESSAGES)
                await pipeline.until(lambda: len(pipeline.database.rows) == MESSAGES and not kept(broker))
            await pipeline.end()

    asyncio.run(scenario())


def test_messages_that_are_published_leave_no_cycles() -> None:
    async def scenario() -> None:
        async with FakeBroker(puback_code=lambda _: PubAckReasonCode.SUCCESS) as broker:
            feed = GeneratedMessages(Run("r", MESSAGES, 1), 0)
            options = ConnectOptions("127.0.0.1", broker.port, "p", clean_start=True)
            seal = message_encoder(Settings.model_validate({"security": KEY}).security)
            async with Publisher([(options, repeat("t"), feed)], window=100, message_encoder=seal) as made:
                await made.connect()
                with hardly_any_garbage():
                    await made.publish()
                assert made.stats.acked == MESSAGES

    asyncio.run(scenario())


def test_messages_that_are_decoded_or_refused_leave_no_cycles() -> None:
    settings = Settings.model_validate({"security": KEY})
    decode, seal = message_decoder(settings), message_encoder(settings.security)
    assert seal is not None
    good = [seal(payload) for payload in GeneratedMessages(Run("r", MESSAGES, 1), 0).take(MESSAGES, 1e9).payloads]
    bad = [payload[:-1] for payload in good]
    with hardly_any_garbage():
        for payloads, kind in ((good, Reading), (bad, Rejected)):
            for payload in payloads:
                assert isinstance(decode(Delivery("t", payload, 1, 0.0, None)), kind)


REPORT = """
import atexit, gc, json, os, pathlib
def report():
    words = pathlib.Path("/proc/self/cmdline").read_bytes().decode().split("\\0")
    told = {"words": words, "threshold": gc.get_threshold(), "frozen": gc.get_freeze_count()}
    pathlib.Path(os.environ["COLLECTOR_REPORTS"], str(os.getpid())).write_text(json.dumps(told))
atexit.register(report)
"""


@pytest.mark.broker
def test_subscriber_and_publisher_processes_tune_the_garbage_collector(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Python runs a module `sitecustomize` in every process: it reports at the end of each."""
    reports = tmp_path / "reports"
    reports.mkdir()
    (tmp_path / "sitecustomize.py").write_text(REPORT)
    commands = Commands(
        {
            "MQTT_BROKER": f"127.0.0.1:{mosquitto.port}",
            "SENSORSYNC_DATABASE__DRIVER": "sqlite",
            "SENSORSYNC_DATABASE__PATH": str(tmp_path / "readings.sqlite"),
            "SENSORSYNC_STATE_DIR": str(tmp_path / "state"),
            "PYTHONPATH": str(tmp_path),
            "COLLECTOR_REPORTS": str(reports),
        }
    )
    commands.run("init-db")
    commands.run("subscribe", "--processes", "2", "--until-idle", "200ms", "--ephemeral")
    with commands.start(tmp_path / "log", "stress-publish", "--messages", "10", "--processes", "1") as publisher:
        commands.run("subscribe", "--until-idle", "200ms", "--ephemeral")
        publisher.finish()
    quiet = []
    for report in map(json.loads, map(Path.read_text, reports.iterdir())):
        if tuple(report["threshold"]) == GC_THRESHOLD:
            assert report["frozen"] > 1000
            quiet.append("publisher" if "--multiprocessing-fork" in report["words"] else "subscriber")
    assert sorted(quiet) == ["publisher", "subscriber", "subscriber", "subscriber"]
