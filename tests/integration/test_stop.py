"""The soft stop is prompt whatever hangs, loses nothing, and a second reason to stop does not make it a hard one."""

from __future__ import annotations

import asyncio
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mqtt5
import pytest

import tests.pipelines
from sensorsync.errors import SensorsyncError
from sensorsync.pipeline import worker_pool as crew
from sensorsync.pipeline.batcher import Batch
from sensorsync.pipeline.contract import Reading, SinkMisconfigured
from sensorsync.pipeline.ingest import IngestLimits
from tests.fakes.broker import FakeBroker
from tests.pipelines import Database, Running, everything, kept, running, send, standing_at_the_gate, subscribed

PATIENT = IngestLimits(stop_timeout=60.0)
"""A test that passes within PROMPT seconds with it has not sat any time-out out."""
PROMPT = 5.0


async def ends_promptly(pipeline: Running) -> None:
    """Wait for the end; raises what the pipeline ends with."""
    await asyncio.wait_for(asyncio.shield(pipeline.task), PROMPT)


@pytest.mark.parametrize(
    ("knobs", "waits_for_an_answer_to"),
    [({"answer_connect": False}, mqtt5.ConnectPacket), ({"withhold_suback": True}, mqtt5.SubscribePacket)],
    ids=["CONNECT", "SUBSCRIBE"],
)
def test_a_start_that_waits_for_the_broker_is_given_up(
    tmp_path: Path, knobs: dict[str, Any], waits_for_an_answer_to: type[mqtt5.Packet]
) -> None:
    async def scenario() -> None:
        async with (
            FakeBroker(**knobs) as broker,
            running(broker.port, tmp_path, connections=1, connect_timeout=60, limits=PATIENT) as pipeline,
        ):
            await broker.wait_for(lambda b: b.packets(waits_for_an_answer_to))
            pipeline.stop.request("test")
            await ends_promptly(pipeline)

    asyncio.run(scenario())


def test_name_look_ups_that_hang_do_not_hold_the_stop_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    hanging: list[object] = []

    def hang(*question: object, **_: object) -> list[object]:
        hanging.append(question)
        answer.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    async def scenario() -> None:
        threads = min(32, (os.cpu_count() or 1) + 4)  # of asyncio's executor: none of them is left over
        async with (
            FakeBroker() as broker,
            running(broker.port, tmp_path, connections=threads, host="localhost", limits=PATIENT) as pipeline,
        ):
            await subscribed(broker, pipeline, links=threads)
            monkeypatch.setattr(socket, "getaddrinfo", hang)
            broker.drop_connection()
            await pipeline.until(lambda: len(hanging) == threads)
            pipeline.stop.request("test")
            try:
                await ends_promptly(pipeline)
            finally:
                answer.set()

    asyncio.run(scenario())


def test_a_connection_lost_while_stopping_loses_nothing_of_its_window(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            FakeBroker(window=10) as broker,
            running(broker.port, tmp_path, connections=1, backoff_min=60, backoff_max=60) as pipeline,
        ):
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            await send(broker, 50)
            await pipeline.until(lambda: pipeline.meter.received == 10)
            pipeline.stop.request("test")
            await pipeline.until(lambda: not pipeline.source._receiving)
            broker.drop_connection()
            await broker.wait_for(lambda b: not b.connected())
            pipeline.database.gate.set()
            await ends_promptly(pipeline)
            assert set(pipeline.database.rows) == everything(10)
            assert set(pipeline.database.rows) | kept(broker) == everything(50)

    asyncio.run(scenario())


def test_writers_that_all_die_while_stopping_end_the_stop(tmp_path: Path) -> None:
    async def scenario() -> None:
        database = Database()
        dropped = threading.Event()

        def wait_and_die(_: Sequence[Reading]) -> None:
            dropped.wait(10)
            raise SinkMisconfigured("no such table", errno=1146)

        database.before_commit = wait_and_die
        async with (
            FakeBroker(window=50) as broker,
            running(
                broker.port,
                tmp_path,
                connections=1,
                receive_maximum=50,
                workers=1,
                batch_size=10,
                database=database,
                limits=PATIENT,
            ) as pipeline,
        ):
            await subscribed(broker, pipeline)
            await send(broker, 40)
            await pipeline.until(lambda: pipeline.meter.received == 40)
            pipeline.stop.request("test")
            await pipeline.until(lambda: not pipeline.source._receiving)
            dropped.set()
            with pytest.raises(SinkMisconfigured):
                await ends_promptly(pipeline)
            assert kept(broker) == everything(40)

    asyncio.run(scenario())


def test_a_writer_that_cannot_be_made_ends_the_process_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_writer(*_: object, **__: object) -> None:
        raise RuntimeError("no sink")

    async def scenario() -> None:
        monkeypatch.setattr(tests.pipelines, "BatchWriter", no_writer)
        async with (
            FakeBroker() as broker,
            running(broker.port, tmp_path, connections=1, limits=PATIENT) as pipeline,
        ):
            with pytest.raises(SensorsyncError, match="RuntimeError") as caught:
                await ends_promptly(pipeline)
            assert str(caught.value.__cause__) == "no sink"

    asyncio.run(scenario())


class DeadlyInbox(queue.SimpleQueue["Batch | None"]):
    """Whoever takes a batch with a deadly message out of it dies before anybody can know that it had it."""

    def get(self, block: bool = True, timeout: float | None = None) -> Batch | None:
        batch = super().get(block, timeout)
        if batch is not None and any(delivery.payload == b"deadly" for delivery in batch.deliveries):
            raise SystemExit(0)
        return batch


def test_a_writer_that_dies_with_a_batch_that_nobody_knows_it_has_does_not_hold_up_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That was a stop that took the whole stop_timeout, and then the exit code of the SystemExit.
    async def scenario() -> None:
        monkeypatch.setattr(crew, "queue", SimpleNamespace(SimpleQueue=DeadlyInbox, Empty=queue.Empty))
        async with (
            FakeBroker() as broker,
            running(broker.port, tmp_path, connections=1, limits=PATIENT) as pipeline,
        ):
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            await broker.publish("t/x", b"first")
            await standing_at_the_gate(pipeline.database)
            await broker.publish("t/x", b"deadly")
            await pipeline.until(lambda: pipeline.stop.requested)
            pipeline.database.gate.set()  # what the other one has in hand it still commits, and that is acknowledged
            with pytest.raises(SensorsyncError, match="SystemExit") as caught:
                await ends_promptly(pipeline)
            assert caught.value.exit_code == 1
            await broker.wait_for(lambda b: b.puback_ids() == [1])
            assert (pipeline.database.rows, kept(broker)) == ([b"first"], {b"deadly"})

    asyncio.run(scenario())


FIRST_SIGNAL_AFTER_OUR_OWN_REASON = """
import asyncio, os, signal
from sensorsync.runtime.shutdown import GracefulShutdown
async def main():
    with GracefulShutdown() as stop:
        stop.request("idle")
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.1)
        print("still here, and so until it is all written:", stop.reason)
asyncio.run(main())
"""


def test_the_first_signal_is_a_soft_one_even_if_we_are_stopping_already() -> None:
    process = subprocess.run(
        [sys.executable, "-c", FIRST_SIGNAL_AFTER_OUR_OWN_REASON],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (process.returncode, process.stdout) == (0, "still here, and so until it is all written: idle\n")


def test_a_bug_while_acknowledging_does_not_wait_for_the_stop_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bug(Exception):
        pass

    def settle(_: object) -> None:
        raise Bug

    async def scenario() -> None:
        limits = IngestLimits(stop_timeout=20.0)
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1, limits=limits) as pipeline:
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            monkeypatch.setattr(pipeline.source, "settle", settle)
            for number in range(2):
                await broker.publish("t/x", b"%d" % number)
                await standing_at_the_gate(pipeline.database)
            pipeline.database.gate.set()
            with pytest.raises(Bug):
                await asyncio.wait_for(asyncio.shield(pipeline.task), 10)
            assert broker.puback_ids() == []

    asyncio.run(scenario())
