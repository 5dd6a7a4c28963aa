"""The fakes themselves: paho-mqtt, written by others, is the client that proves they speak real MQTT 5."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import mqtt5
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.fakes import Answering, FakeBroker, Fault, InThread, MySqlProxy, TcpProxy

Broker = InThread[FakeBroker]


class PahoClient:
    """A paho client with manual acks whose events wait in queues."""

    def __init__(self, port: int, client_id: str, *, expiry: int = 0, receive_max: int | None = None) -> None:
        self.port = port
        self.messages: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.connacks: queue.Queue[tuple[int, bool, Any]] = queue.Queue()
        self.subacks: queue.Queue[list[int]] = queue.Queue()
        self.pubacks: queue.Queue[int] = queue.Queue()
        self.disconnects: queue.Queue[int] = queue.Queue()
        self.properties: Any = Properties(PacketTypes.CONNECT)
        self.properties.SessionExpiryInterval = expiry
        if receive_max:
            self.properties.ReceiveMaximum = receive_max
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5, manual_ack=True)
        self.client.reconnect_delay_set(0.05, 0.05)  # type: ignore[arg-type]
        self.client.on_connect = lambda c, u, f, code, p: self.connacks.put((code.value, f.session_present, p))
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        self.client.on_subscribe = lambda c, u, mid, codes, p: self.subacks.put([code.value for code in codes])
        self.client.on_publish = lambda c, u, mid, code, p: self.pubacks.put(code.value)
        self.client.on_disconnect = lambda c, u, f, code, p: self.disconnects.put(code.value)

    def connect(self, *, clean: bool = False) -> tuple[int, bool, Any]:
        self.client.connect("127.0.0.1", self.port, clean_start=clean, properties=self.properties)
        self.client.loop_start()
        return self.connacks.get(timeout=5)

    def subscribe(self, pattern: str) -> list[int]:
        self.client.subscribe(pattern, options=SubscribeOptions(qos=1))
        return self.subacks.get(timeout=5)

    def take(self, count: int, *, ack: bool = True) -> list[paho.MQTTMessage]:
        taken = [self.messages.get(timeout=5) for _ in range(count)]
        if ack:
            for message in taken:
                self.client.ack(message.mid, message.qos)
        return taken

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        # It closes its two inner sockets when nothing refers to it any more. In a cycle with us they may be collected before it.
        self.client.on_connect = self.client.on_message = self.client.on_subscribe = None
        self.client.on_publish = self.client.on_disconnect = None


@pytest.fixture
def broker() -> Iterator[Broker]:
    with InThread(FakeBroker()) as running:
        yield running


@pytest.fixture
def client(broker: Broker) -> Iterator[Callable[..., PahoClient]]:
    with contextlib.ExitStack() as stack:

        def make(client_id: str, *, expiry: int = 0, receive_max: int | None = None) -> PahoClient:
            made = PahoClient(broker.port, client_id, expiry=expiry, receive_max=receive_max)
            stack.callback(made.close)
            return made

        yield make


Make = Callable[..., PahoClient]


def payloads(messages: list[paho.MQTTMessage]) -> list[bytes]:
    return [bytes(message.payload) for message in messages]


def publish(broker: Broker, count: int, topic: str = "a/b", start: int = 0) -> None:
    async def all_of_them(fake: FakeBroker) -> None:
        for i in range(start, start + count):
            await fake.publish(topic, b"%d" % i)

    broker.do(all_of_them)


def numbers(start: int, stop: int) -> list[bytes]:
    return [b"%d" % i for i in range(start, stop)]


def exactly(raw: socket.socket, count: int) -> bytes:
    """So many bytes: TCP may bring them in pieces, or with others."""
    data = b""
    while len(data) < count:
        more = raw.recv(count - len(data))
        assert more, "closed"
        data += more
    return data


def next_packet(raw: socket.socket) -> mqtt5.Packet:
    """A packet of less than 130 bytes."""
    head = exactly(raw, 2)
    return mqtt5.read(memoryview(head + exactly(raw, head[1])))[0]


def wait_for(broker: Broker, predicate: Callable[[FakeBroker], object]) -> None:
    broker.do(lambda fake: fake.wait_for(predicate))


def test_a_paho_subscriber_gets_messages_and_its_acks_are_recorded_in_order(broker: Broker, client: Make) -> None:
    subscriber = client("s")
    assert subscriber.connect()[:2] == (0, False)
    assert subscriber.subscribe("a/+") == [1]
    publish(broker, 5)
    taken = subscriber.take(5)
    assert payloads(taken) == numbers(0, 5)
    wait_for(broker, lambda fake: fake.puback_ids("s") == [1, 2, 3, 4, 5])
    assert [packet.client_id for packet in broker.do(lambda fake: fake.packets(mqtt5.ConnectPacket))] == ["s"]


def test_a_paho_publisher_is_told_whether_somebody_subscribed(broker: Broker, client: Make) -> None:
    publisher, subscriber = client("p"), client("s")
    publisher.connect()
    publisher.client.publish("a/b", b"x", qos=1)
    assert publisher.pubacks.get(timeout=5) == 0x10
    subscriber.connect()
    subscriber.subscribe("#")
    publisher.client.publish("a/b", b"y", qos=1)
    assert publisher.pubacks.get(timeout=5) == 0
    assert payloads(subscriber.take(1)) == [b"y"]


def test_the_window_is_the_smaller_of_both_and_holds_after_acks(broker: Broker, client: Make) -> None:
    subscriber = client("s", receive_max=10)
    subscriber.connect()
    subscriber.subscribe("#")
    publish(broker, 100)
    first = subscriber.take(10, ack=False)
    assert broker.do(lambda fake: len(fake.sessions["s"].inflight)) == 10
    for message in first[:3]:
        subscriber.client.ack(message.mid, 1)
    assert payloads(subscriber.take(3, ack=False)) == numbers(10, 13)
    assert broker.do(lambda fake: len(fake.sessions["s"].inflight)) == 10

    broker.set(window=4)
    other = client("t")
    other.connect()
    other.subscribe("#")
    publish(broker, 20)
    other.take(4, ack=False)
    assert broker.do(lambda fake: len(fake.sessions["t"].inflight)) == 4


def test_a_session_that_holds_more_than_its_bound_is_killed_with_all_of_it(broker: Broker, client: Make) -> None:
    broker.set(window=4, kill_above=10)
    subscriber = client("s", expiry=3600)
    subscriber.connect()
    subscriber.subscribe("#")
    publish(broker, 10)
    assert broker.do(lambda fake: fake.killed) == []

    publish(broker, 1)
    assert subscriber.disconnects.get(timeout=5) != 0
    assert len(broker.do(lambda fake: fake.killed)) == 11
    _, present, _ = subscriber.connacks.get(timeout=5)  # paho connects again by itself
    assert not present
    wait_for(broker, lambda fake: fake.sessions["s"].undelivered() == [])


def test_unacked_messages_come_again_after_a_reconnect_with_their_ids_and_dup(broker: Broker, client: Make) -> None:
    subscriber = client("s", expiry=3600)
    subscriber.connect()
    subscriber.subscribe("#")
    publish(broker, 3)
    before = subscriber.take(3, ack=False)
    subscriber.client.ack(before[1].mid, 1)
    wait_for(broker, lambda fake: fake.puback_ids("s") == [2])
    broker.do(lambda fake: fake.drop_connection("s"))
    assert subscriber.connacks.get(timeout=5)[1] is True
    again = subscriber.take(2)
    assert [(m.mid, m.payload, m.dup) for m in again] == [(1, b"0", True), (3, b"2", True)]
    wait_for(broker, lambda fake: fake.puback_ids("s", connection=2) == [1, 3])


def test_a_lost_session_reuses_packet_ids(broker: Broker, client: Make) -> None:
    subscriber = client("s", expiry=3600)
    subscriber.connect()
    subscriber.subscribe("#")
    publish(broker, 1)
    assert subscriber.take(1, ack=False)[0].mid == 1

    def lose_it(fake: FakeBroker) -> None:
        fake.drop_connection("s")
        fake.lose_sessions()  # before it is back

    broker.do(lose_it)
    assert subscriber.connacks.get(timeout=5)[1] is False
    subscriber.subscribe("#")
    publish(broker, 1, start=7)
    assert [(m.mid, m.payload, m.dup) for m in subscriber.take(1)] == [(1, b"7", False)]
    broker.do(lambda fake: fake.next_packet_id("s", 500))
    publish(broker, 1)
    assert subscriber.take(1)[0].mid == 500


def test_an_unacked_id_can_be_sent_again_on_the_live_connection(broker: Broker, client: Make) -> None:
    subscriber = client("s")
    subscriber.connect()
    subscriber.subscribe("#")
    publish(broker, 1)
    subscriber.take(1, ack=False)
    broker.do(lambda fake: fake.resend("s", 1))
    assert [(m.mid, m.dup) for m in subscriber.take(1)] == [(1, True)]


def test_a_shared_group_goes_round_and_feeds_a_persistent_member_that_is_offline(broker: Broker, client: Make) -> None:
    one, two = client("one", expiry=3600), client("two", expiry=3600)
    for member in (one, two):
        member.connect()
        member.subscribe("$share/g/a/#")
    publish(broker, 4)
    assert payloads(one.take(2)) == [b"0", b"2"]
    assert payloads(two.take(2)) == [b"1", b"3"]
    two.close()
    wait_for(broker, lambda fake: fake.connected() == ["one"])
    publish(broker, 4, start=4)
    assert payloads(one.take(2)) == [b"4", b"6"]
    again = client("two", expiry=3600)
    assert again.connect()[1] is True
    assert payloads(again.take(2)) == [b"5", b"7"]


def test_a_shared_member_whose_session_ends_leaves_its_messages_to_the_group(broker: Broker, client: Make) -> None:
    one, two = client("one"), client("two")
    for member in (one, two):
        member.connect()
        member.subscribe("$share/g/a/#")
    publish(broker, 6)
    two.take(3, ack=False)
    one.take(3)
    two.close()
    assert payloads(one.take(3)) == [b"1", b"3", b"5"]


@pytest.mark.parametrize(("drop", "kept"), [("oldest", numbers(7, 10)), ("newest", numbers(0, 3))])
def test_a_full_queue_drops(broker: Broker, client: Make, drop: str, kept: list[bytes]) -> None:
    broker.set(queue_limit=3, drop=drop)
    subscriber = client("s", expiry=3600)
    subscriber.connect()
    subscriber.subscribe("#")
    subscriber.close()
    wait_for(broker, lambda fake: not fake.connected())
    publish(broker, 10)
    assert broker.do(lambda fake: len(fake.sessions["s"].dropped)) == 7
    again = client("s", expiry=3600)
    again.connect()
    assert payloads(again.take(3)) == kept


def test_connect_can_be_refused_with_any_code(broker: Broker, client: Make) -> None:
    broker.do(lambda fake: fake.connack_codes.append(mqtt5.ConnAckReasonCode.SERVER_BUSY))
    assert client("s").connect()[0] == 0x89
    broker.set(credentials={"ann": b"secret"})
    stranger, forgetful, ann = client("x"), client("y"), client("z")
    forgetful.client.username_pw_set("ann", "wrong")
    ann.client.username_pw_set("ann", "secret")
    assert stranger.connect()[0] == 0x87
    assert forgetful.connect()[0] == 0x86
    assert ann.connect()[0] == 0


def test_connack_states_the_receive_maximum_and_the_keep_alive(broker: Broker, client: Make) -> None:
    broker.set(receive_max=32, server_keep_alive=7)
    properties = client("p").connect()[2]
    assert (properties.ReceiveMaximum, properties.ServerKeepAlive) == (32, 7)


def test_suback_codes_can_be_chosen_or_withheld(broker: Broker, client: Make) -> None:
    broker.do(lambda fake: fake.suback_codes.update({"secret/#": mqtt5.SubAckReasonCode.NOT_AUTHORIZED}))
    subscriber = client("s")
    subscriber.connect()
    assert subscriber.subscribe("secret/#") == [0x87]
    broker.set(withhold_suback=True)
    subscriber.client.subscribe("a")
    wait_for(broker, lambda fake: len(fake.packets(mqtt5.SubscribePacket)) == 2)
    with pytest.raises(queue.Empty):
        subscriber.subacks.get(timeout=0.1)


def test_a_second_client_with_the_same_id_takes_over(broker: Broker, client: Make) -> None:
    first, second = client("same"), client("same")
    first.client.reconnect_delay_set(60, 60)
    first.connect()
    second.connect()
    assert first.disconnects.get(timeout=5) == 0x8E
    assert broker.do(lambda fake: fake.connected()) == ["same"]


@pytest.mark.parametrize("make", [FakeBroker, Answering, lambda: TcpProxy(1)])
def test_a_fake_that_stops_while_somebody_connects_leaves_no_socket_open(
    make: Callable[[], FakeBroker | Answering | TcpProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    unclosed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: unclosed.append(unraisable.exc_value))
    for _ in range(20):
        with contextlib.ExitStack() as stack, InThread(make()) as fake:
            for _ in range(3):
                stack.enter_context(socket.create_connection(("127.0.0.1", fake.port), 5))
    gc.collect()
    assert unclosed == []


def test_publisher_acks_are_withheld_and_the_receive_maximum_is_enforced(broker: Broker, client: Make) -> None:
    broker.set(withhold_publisher_acks=True, receive_max=5)
    publisher = client("p")
    publisher.client.reconnect_delay_set(60, 60)
    publisher.client.max_inflight_messages_set(6)
    publisher.connect()
    for i in range(5):
        publisher.client.publish("a", b"%d" % i, qos=1)
    wait_for(broker, lambda fake: fake.publisher_debt("p") == 5)
    assert publisher.pubacks.empty()
    broker.do(lambda fake: fake.release_publisher_acks())
    assert [publisher.pubacks.get(timeout=5) for _ in range(5)] == [0x10] * 5


def test_a_publisher_beyond_the_receive_maximum_is_disconnected(broker: Broker) -> None:
    broker.set(receive_max=2)
    with socket.create_connection(("127.0.0.1", broker.port), 5) as raw:
        raw.sendall(mqtt5.ConnectPacket("greedy").write())
        next_packet(raw)
        one = [mqtt5.PublishPacket("a", b"x", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=i).write() for i in (1, 2, 3)]
        raw.sendall(b"".join(one))
        packet = next_packet(raw)
    assert isinstance(packet, mqtt5.DisconnectPacket)
    assert packet.reason_code is mqtt5.DisconnectReasonCode.RECEIVE_MAX_EXCEEDED


def test_publisher_acks_can_carry_a_failure_and_such_messages_go_nowhere(broker: Broker, client: Make) -> None:
    broker.set(puback_code=lambda packet: mqtt5.PubAckReasonCode.QUOTA_EXCEEDED)
    publisher, subscriber = client("p"), client("s")
    subscriber.connect()
    subscriber.subscribe("#")
    publisher.connect()
    publisher.client.publish("a", b"x", qos=1)
    assert publisher.pubacks.get(timeout=5) == 0x97
    assert subscriber.messages.empty()


def test_a_swallowed_connection_stays_up_and_says_nothing(broker: Broker, client: Make) -> None:
    subscriber = client("s")
    subscriber.connect()
    broker.do(lambda fake: fake.swallow("s"))
    subscriber.client.subscribe("a")
    with pytest.raises(queue.Empty):
        subscriber.subacks.get(timeout=0.2)
    assert subscriber.disconnects.empty()
    assert broker.do(lambda fake: fake.packets(mqtt5.SubscribePacket)) == []


def test_injected_garbage_reaches_the_client(broker: Broker, client: Make) -> None:
    subscriber = client("s")
    subscriber.client.reconnect_delay_set(60, 60)
    subscriber.connect()
    broker.do(lambda fake: fake.inject("s", b"\xf0\xff\xff\xff\xff\xff"))
    assert subscriber.disconnects.get(timeout=5) != 0


def test_a_silent_client_is_disconnected_after_one_and_a_half_keep_alives(broker: Broker) -> None:
    with socket.create_connection(("127.0.0.1", broker.port), 5) as raw:
        raw.sendall(mqtt5.ConnectPacket("quiet", keep_alive=1).write())
        assert isinstance(next_packet(raw), mqtt5.ConnAckPacket)
        packet = next_packet(raw)
    assert isinstance(packet, mqtt5.DisconnectPacket)
    assert packet.reason_code is mqtt5.DisconnectReasonCode.KEEP_ALIVE_TIMEOUT


def test_the_broker_runs_inside_the_tests_own_loop() -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker:
            reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
            writer.write(mqtt5.ConnectPacket("c", session_expiry_interval=60).write())
            await broker.wait_for(lambda fake: fake.connected("c"))
            assert (await reader.read(100))[0] == 0x20
            await broker.stop()
            assert await reader.read(100) == b""
            await broker.start()
            assert list(broker.sessions) == ["c"]
            writer.close()

    asyncio.run(scenario())


class EchoServer:
    """Sends back what it gets, in upper case."""

    def __enter__(self) -> Self:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.got: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # ends the `accept` that the thread waits in
        self.listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self.listener.accept()[0]
                threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(1000):
                self.got.append(data)
                connection.sendall(data.upper())


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


def test_the_proxy_passes_delays_swallows_and_cuts(echo: EchoServer) -> None:
    with InThread(TcpProxy(echo.port)) as proxy, socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
        client.sendall(b"plain")
        assert client.recv(100) == b"PLAIN"

        proxy.set(delay_up=0.1, delay_down=0.1)
        before = time.monotonic()
        client.sendall(b"late")
        assert client.recv(100) == b"LATE"
        assert time.monotonic() - before >= 0.2

        proxy.do(lambda p: p.swallow())
        client.sendall(b"lost")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(100)

        proxy.do(lambda p: p.heal())
        with socket.create_connection(("127.0.0.1", proxy.port), 5) as fresh:
            fresh.sendall(b"new")
            assert fresh.recv(100) == b"NEW"
            proxy.do(lambda p: p.cut())
            with contextlib.suppress(ConnectionResetError):
                assert fresh.recv(100) == b""
    assert echo.got == [b"plain", b"late", b"new"]


def test_the_proxy_passes_on_that_one_side_closed(echo: EchoServer) -> None:
    with InThread(TcpProxy(echo.port)) as proxy, socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
        client.sendall(b"bye")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b"BYE"
        assert client.recv(100) == b""


def query(text: str) -> bytes:
    payload = b"\x03" + text.encode()
    return len(payload).to_bytes(3, "little") + b"\x00" + payload


def test_the_mysql_proxy_forwards_a_commit_and_breaks_before_its_answer(echo: EchoServer) -> None:
    with InThread(MySqlProxy(echo.port)) as proxy, socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
        proxy.do(lambda p: p.break_at(Fault.AFTER))
        insert = query("insert into t values ('COMMIT')")
        client.sendall(insert[:7])
        client.sendall(insert[7:])
        assert exactly(client, len(insert)) == insert.upper()
        client.sendall(query("COMMIT"))
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""
        assert proxy.do(lambda p: p.queries) == ["insert into t values ('COMMIT')", "COMMIT"]
    assert b"".join(echo.got).endswith(query("COMMIT"))


def test_the_mysql_proxy_breaks_before_the_server_gets_the_commit(echo: EchoServer) -> None:
    with InThread(MySqlProxy(echo.port)) as proxy, socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
        proxy.do(lambda p: p.break_at(Fault.BEFORE))
        client.sendall(query("COMMIT"))
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""
    assert echo.got == []


def test_the_mysql_proxy_holds_a_commit_until_it_is_released(echo: EchoServer) -> None:
    with InThread(MySqlProxy(echo.port)) as proxy, socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
        proxy.do(lambda p: p.break_at(Fault.HOLD))
        client.sendall(query("commit"))
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(100)
        client.settimeout(5)
        proxy.do(lambda p: p.release())
        assert exactly(client, len(query("commit"))) == query("commit").upper()
