"""The paho engine: the scripted broker's traps, and what is its own: its window in MQTT 3.1.1, its sockets, its repairs."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import resource
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import mqtt5
import pytest
from typer.testing import CliRunner

from sensorsync.cli.wiring import app
from sensorsync.errors import ExitCode, SensorsyncError
from sensorsync.mqtt.client.base import BrokerConnection
from sensorsync.mqtt.client.broken_packets import ReceivedPacket
from sensorsync.mqtt.client.causes import CAUSES
from sensorsync.mqtt.client.errors import BrokerUnavailable
from sensorsync.mqtt.client.open import open_connection
from sensorsync.mqtt.client.options import ConnectOptions
from sensorsync.mqtt.client.paho.client import make_client
from sensorsync.mqtt.client.paho.exchange import PacketTranslator
from sensorsync.pipeline.ingest import IngestLimits
from tests.conftest import Mosquitto
from tests.fakes import FakeBroker
from tests.integration import test_source, test_source_edges, test_source_ending_sessions
from tests.pipelines import CLIENT, everything, running, send, subscribed
from tests.services.process import free_port

SCENARIOS = [
    test_source.test_trap_1_no_ack_leaves_before_the_commit,
    test_source.test_trap_1_a_bad_message_is_acknowledged_only_once_its_letter_is_in_the_box,
    test_source.test_trap_2_a_late_ack_is_not_sent_on_a_new_connection,
    test_source.test_trap_4_the_acks_are_a_prefix_in_order_of_arrival_whatever_the_writers_do,
    test_source.test_trap_11_resends_of_an_unsettled_message_cost_no_memory_and_one_ack,
    test_source.test_trap_11_a_resend_that_crossed_our_ack_does_not_settle_the_ids_next_owner,
    test_source.test_after_a_dropped_connection_what_was_unacknowledged_is_delivered_again_and_stored_once_more,
    test_source.test_auto_opens_the_links_that_connacks_receive_maximum_calls_for,
    test_source.test_a_second_instance_with_our_client_ids_ends_us_and_we_do_not_fight,
    test_source.test_a_refused_subscription_ends_the_start,
    test_source.test_a_broker_that_never_answers_is_given_up_after_the_connect_timeout,
    test_source.test_a_black_hole_is_noticed_by_the_keep_alive_and_left,
    test_source.test_bytes_that_are_not_mqtt_cost_the_connection_and_nothing_else,
    test_source.test_qos_0_messages_are_bounded_by_leaving_them_in_the_socket,
    test_source.test_a_soft_stop_writes_what_was_taken_over_acknowledges_it_and_keeps_the_session,
    test_source_ending_sessions.test_draining_goes_on_under_back_pressure_and_takes_everything,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.__name__.removeprefix("test_"))
def test_what_the_native_engine_does_paho_does_too(
    scenario: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_paho(monkeypatch)
    scenario(tmp_path)


@pytest.mark.parametrize("place", test_source_edges.POISON)
def test_a_broken_message_is_parked_and_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    with_paho(monkeypatch)
    test_source_edges.test_a_broken_message_does_not_come_back_with_every_connection(tmp_path, monkeypatch, place)


@pytest.mark.parametrize("huge", [False, True])
def test_a_topic_alias_is_refused_by_paho_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, huge: bool) -> None:
    with_paho(monkeypatch)
    test_source_edges.test_a_topic_alias_that_we_did_not_allow_is_refused_and_never_stored_or_acknowledged(
        tmp_path, monkeypatch, huge
    )


def with_paho(monkeypatch: pytest.MonkeyPatch) -> None:
    paho = partial(running, client="paho")
    for module in (test_source, test_source_edges):
        monkeypatch.setattr(module, "running", paho)
    monkeypatch.setattr(
        test_source_ending_sessions, "leaver", partial(test_source_ending_sessions.leaver, client="paho")
    )


def test_while_reading_is_paused_keep_alive_pings_go_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        limits = IngestLimits(queue_bytes=1000, stop_timeout=5.0)
        async with (
            FakeBroker() as broker,
            running(broker.port, tmp_path, client="paho", connections=1, keep_alive=4, limits=limits) as pipeline,
        ):
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            await send(broker, 10, b"%d" + b"-" * 900)
            await pipeline.until(lambda: pipeline.source._paused)
            # paho's own PINGREQ would be followed by its time-out, for nobody reads the answer.
            await broker.wait_for(lambda b: len(b.packets(mqtt5.UnsubscribePacket)) >= 3, timeout=90)
            assert pipeline.meter.reconnects == 0
            pipeline.database.gate.set()
            await pipeline.until(lambda: len(pipeline.database.rows) == 10)
            assert pipeline.meter.reconnects == 0

    asyncio.run(scenario())


# -- connections without a pipeline --------------------------------------------------------------------------------------


class Owner:
    """A handler that keeps what comes."""

    def __init__(self) -> None:
        self.packets: list[ReceivedPacket] = []
        self.news = asyncio.Event()

    def connection_ready(self, connection: BrokerConnection) -> None:
        pass

    def packets_received(self, packets: Sequence[ReceivedPacket], *, more: bool) -> None:
        self.packets += packets
        self.news.set()

    def connection_lost(self, error: SensorsyncError | None) -> None:
        self.news.set()

    def writing_paused(self, paused: bool) -> None:
        pass

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.news.clear()
                await self.news.wait()

    @property
    def messages(self) -> list[mqtt5.PublishPacket]:
        return [packet for packet in self.packets if isinstance(packet, mqtt5.PublishPacket)]


def options(port: int, **more: Any) -> ConnectOptions:
    given = {"client_id": "me", "clean_start": True, "engine": "paho", "connect_timeout": 5.0, **more}
    return ConnectOptions("127.0.0.1", port, **given)


def test_with_mqtt_3_1_1_no_more_than_our_receive_maximum_is_read_from_a_broker_without_a_window() -> None:
    async def scenario() -> None:
        with Mosquitto(max_inflight=0) as broker:
            owner = Owner()
            link = await open_connection(options(broker.port, protocol="3.1.1", receive_maximum=7), owner)
            link.send([mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("t", max_qos=mqtt5.QoS.AT_LEAST_ONCE)])])
            other = await open_connection(options(broker.port, client_id="other"), Owner())
            other.send(
                [mqtt5.PublishPacket("t", b"%d" % n, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=n + 1) for n in range(20)]
            )
            assert await other.ping(5)
            await owner.until(lambda: len(owner.messages) == 7)
            await asyncio.sleep(0.05)  # more would come now
            assert len(owner.messages) == 7

            for number in range(13):
                link.send([mqtt5.PubAckPacket(owner.messages[number].packet_id or 0)])
                await owner.until(lambda number=number: len(owner.messages) == 8 + number)  # type: ignore[misc]
            await link.close()
            await other.close()

    asyncio.run(scenario())


def test_a_resend_that_crossed_our_ack_takes_no_room_in_the_window_of_mqtt_3_1_1() -> None:
    # Nothing is acknowledged twice: what it took would never be free again.
    client = make_client(options(1, protocol="3.1.1"))
    exchange = PacketTranslator(client)
    first, resent = b"\x32\x06\x00\x01t\x00\x07x", b"\x3a\x06\x00\x01t\x00\x07x"
    ours, broker = socket.socketpair()
    with ours, broker:
        client._sock = ours
        for packet, waiting in ((resent, {7}), (resent, {7}), (None, set()), (resent, set()), (first, {7})):
            if packet is None:
                exchange.send([mqtt5.PubAckPacket(7)])
            else:
                broker.sendall(packet)
                client.loop_read()
            assert exchange.unacknowledged == waiting
        client._sock = None
    assert len(exchange.take_received()) == 4


@pytest.mark.parametrize("password", ["secret", "s" * 300, "\N{KEY}"])
@pytest.mark.parametrize("engine", ["native", "paho"])
def test_a_password_without_a_user_name_is_sent(engine: str, password: str) -> None:
    # paho left it out: the login was an anonymous one.
    async def scenario() -> None:
        async with FakeBroker() as broker:
            link = await open_connection(options(broker.port, engine=engine, password=password, keep_alive=77), Owner())
            [connect] = broker.packets(mqtt5.ConnectPacket)
            assert (connect.username, connect.password) == (None, password.encode())
            assert (connect.client_id, connect.keep_alive, connect.clean_start) == ("me", 77, True)
            assert await link.ping(5)
            await link.close()

    asyncio.run(scenario())


@contextmanager
def a_thousand_files() -> Iterator[None]:
    """Every file descriptor below 1024 is taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip(f"no process may have more than {hard} files open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with ExitStack() as files:
        try:
            while (number := os.open(os.devnull, os.O_RDONLY)) < 1100:
                files.callback(os.close, number)
            files.callback(os.close, number)
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_file_descriptors_that_select_cannot_watch_are_no_obstacle(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker:
            with a_thousand_files():
                async with running(broker.port, tmp_path, client="paho", connections=3) as pipeline:
                    await subscribed(broker, pipeline, links=3)
                    assert all(link.connection._fd > 1023 for link in pipeline.source._links)  # type: ignore[union-attr]
                    await send(broker, 100)
                    await pipeline.until(lambda: set(pipeline.database.rows) == everything(100))
                    broker.drop_connection(CLIENT)
                    await pipeline.until(lambda: pipeline.meter.reconnects == 1)
                    await pipeline.end()

    asyncio.run(scenario())


# -- WebSockets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 404 Not Found\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"\xff\xfe: \n" * 4, b"sec-websocket-accept\n\n", b""],
)
def test_what_is_no_websocket_for_mqtt_is_named(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(BrokerUnavailable, match="/mqtt: no WebSocket for MQTT is offered there") as refusal:
                await open_connection(options(port, websocket_path="/mqtt"), Owner())
            assert refusal.value.cause is CAUSES["websocket_refused"]

    asyncio.run(scenario())


class SlowReader:
    """A broker behind a WebSocket that reads nothing for a while. `received`: what the frames held, unmasked."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.received = bytearray()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[int]:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with await asyncio.start_server(self._talk, sock=listener, limit=4096):
            yield listener.getsockname()[1]

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split(": ")[1] for line in request.splitlines() if line.startswith("Sec-WebSocket-Key"))
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
        accept = base64.b64encode(digest).decode()
        writer.write(f"HTTP/1.1 101 Upgrade\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        await self._frame(reader)
        writer.write(b"\x82\x04\x20\x02\x00\x00")
        self.received.clear()
        await self.go_on.wait()
        while not self.received.endswith(mqtt5.DisconnectPacket().write()):
            await self._frame(reader)
        writer.close()

    async def _frame(self, reader: asyncio.StreamReader) -> None:
        _, length = await reader.readexactly(2)
        length &= 0x7F
        if length >= 126:
            width = 2 if length == 126 else 8
            length = int.from_bytes(await reader.readexactly(width))
        mask = await reader.readexactly(4)
        data = await reader.readexactly(length)
        long_mask = (mask * (length // 4 + 1))[:length]
        self.received += (int.from_bytes(data) ^ int.from_bytes(long_mask)).to_bytes(length)


def test_a_websocket_that_takes_a_packet_in_parts_loses_none() -> None:
    # paho 2.2 forgets the packet and garbles the next one.
    payloads = [struct.pack("!I", n) * 50_000 for n in range(40)]

    async def scenario() -> None:
        broker = SlowReader()
        async with broker.serve() as port:
            link = await open_connection(options(port, protocol="3.1.1", websocket_path="/mqtt"), Owner())
            link.send(
                [
                    mqtt5.PublishPacket("t", payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=n + 1)
                    for n, payload in enumerate(payloads)
                ]
            )
            await asyncio.sleep(0.1)  # the buffers are full
            broker.go_on.set()
            assert await link.close(timeout=50)
        assert len(broker.received) == sum(len(payload) + 9 for payload in payloads) + 2
        assert all(payload in broker.received for payload in payloads)

    asyncio.run(scenario())


@pytest.mark.parametrize("command", [["stress-publish", "--messages", "1"], ["subscribe"]], ids=lambda words: words[0])
def test_the_flag_chooses_the_engine(command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SENSORSYNC_MQTT__PROTOCOL", "3.1.1")
    monkeypatch.setenv("SENSORSYNC_DATABASE__PATH", str(tmp_path / "missing" / "readings.sqlite"))
    monkeypatch.setenv("SENSORSYNC_DATABASE__DRIVER", "sqlite")
    monkeypatch.setenv("MQTT_BROKER", f"127.0.0.1:{free_port()}")

    native = CliRunner().invoke(app, command)
    paho = CliRunner().invoke(app, [*command, "--client", "paho"])

    assert native.exit_code == ExitCode.USAGE
    assert "needs mqtt.client: paho" in " ".join(native.stderr.split())
    assert paho.exit_code in {ExitCode.BROKER, ExitCode.DATABASE}
