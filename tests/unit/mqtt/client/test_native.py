"""Connection: whatever bytes come, in whatever pieces, packets come out whole and in order, or the connection ends with an error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import pairwise

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.errors import SensorsyncError
from sensorsync.mqtt.client.base import BrokerConnection
from sensorsync.mqtt.client.broken_packets import ReceivedPacket
from sensorsync.mqtt.client.errors import BrokerRefused, BrokerUnavailable, SessionTakenOver
from sensorsync.mqtt.client.native import NativeConnection
from sensorsync.mqtt.client.options import ConnectOptions

OPTIONS = ConnectOptions(host="broker", port=1883, client_id="me", keep_alive=10.0)
CONNACK = mqtt5.ConnAckPacket().write()


class Owner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.packets: list[ReceivedPacket] = []
        self.lost: list[SensorsyncError | None] = []
        self.ready = 0

    def connection_ready(self, connection: BrokerConnection) -> None:
        self.ready += 1

    def packets_received(self, packets: Sequence[ReceivedPacket], *, more: bool) -> None:
        assert packets
        self.packets += packets

    def connection_lost(self, error: SensorsyncError | None) -> None:
        self.lost.append(error)

    def writing_paused(self, paused: bool) -> None:
        pass


class Wire(asyncio.Transport):
    """A transport that only remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.aborted = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def hand_over(connection: NativeConnection, data: bytes) -> None:
    """A read of the socket as asyncio does it."""
    connection.get_buffer(-1)[: len(data)] = data
    connection.buffer_updated(len(data))


def feed(chunks: Iterable[bytes]) -> tuple[Owner, Wire, NativeConnection]:
    """Give a connection these reads, as asyncio would: nothing more after an abort."""
    loop = asyncio.new_event_loop()

    async def talk() -> tuple[Owner, Wire, NativeConnection]:
        owner, wire = Owner(), Wire()
        connection = NativeConnection(OPTIONS, owner)
        connection.connection_made(wire)
        for chunk in chunks:
            if wire.aborted:
                break
            hand_over(connection, chunk)
        connection.connection_lost(None)
        if connection.handshake.done() and not connection.handshake.cancelled():
            connection.handshake.exception()
        return owner, wire, connection

    try:
        return loop.run_until_complete(talk())
    finally:
        loop.close()


def split(data: bytes, at: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[low:high] for low, high in pairwise(places) if high > low]


publishes = st.builds(
    lambda topic, payload, packet_id, dup: mqtt5.PublishPacket(
        topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id, duplicate=dup
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="+#\0", exclude_categories=("Cc", "Cs")), min_size=1),
    st.binary(max_size=300),
    st.integers(1, 65535),
    st.booleans(),
)


@given(st.lists(publishes, max_size=20), st.lists(st.integers(0, 10_000), max_size=30))
def test_a_stream_gives_the_same_packets_however_it_is_cut(packets: list[mqtt5.PublishPacket], cuts: list[int]) -> None:
    stream = CONNACK + b"".join(packet.write() for packet in packets)

    owner, _, _ = feed(split(stream, cuts))

    assert owner.packets == packets
    assert owner.ready == 1


# The codec's panic on a topic that is no UTF-8 also goes to Python's unraisable hook.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(st.lists(publishes, max_size=5), st.binary(min_size=1, max_size=200), st.lists(st.integers(0, 2000), max_size=8))
def test_garbage_after_good_packets_raises_nothing_and_takes_nothing_back(
    packets: list[mqtt5.PublishPacket], garbage: bytes, cuts: list[int]
) -> None:
    stream = CONNACK + b"".join(packet.write() for packet in packets)

    owner, wire, _ = feed([stream, *split(garbage, cuts)])

    assert owner.packets[: len(packets)] == packets
    assert len(owner.lost) == 1
    assert isinstance(owner.lost[0], SensorsyncError)
    if wire.aborted:
        assert str(owner.lost[0])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(st.lists(publishes, min_size=1, max_size=5), st.data())
def test_one_flipped_bit_raises_nothing(packets: list[mqtt5.PublishPacket], data: st.DataObject) -> None:
    stream = bytearray(b"".join(packet.write() for packet in packets))
    place = data.draw(st.integers(0, len(stream) * 8 - 1))
    stream[place // 8] ^= 1 << place % 8

    owner, _, _ = feed([CONNACK, bytes(stream)])

    assert len(owner.lost) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(st.binary(max_size=100))
def test_a_peer_that_is_not_a_broker_never_makes_us_ready(data: bytes) -> None:
    if data[:1] == b"\x20":
        data = b"\x30" + data[1:]

    owner, _, _ = feed([data] if data else [])

    assert owner.ready == 0
    assert owner.packets == []


def test_a_disconnect_is_reported_after_the_packets_before_it() -> None:
    message = mqtt5.PublishPacket("t", b"x", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1)
    taken = mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER)

    owner, wire, _ = feed([CONNACK + message.write() + taken.write()])

    assert owner.packets == [message]
    assert wire.aborted
    assert isinstance(owner.lost[0], SessionTakenOver)


def test_without_an_answer_to_connect_the_owner_is_not_called() -> None:
    owner, _, connection = feed([])

    assert owner.lost == []
    assert isinstance(connection.handshake.exception(), BrokerUnavailable)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (b"\x20\x02\x00\x01", BrokerRefused, "does not speak MQTT 5"),
        (b"HTTP/1.1 400 Bad Request\r\n", BrokerUnavailable, "HTTP"),
        (b"\x15\x03\x03\x00\x02\x02\x46", BrokerRefused, "expects TLS"),
        (b"SSH-2.0-x", BrokerUnavailable, "not MQTT"),
    ],
)
def test_an_answer_that_is_not_mqtt_5_ends_the_handshake_at_once_with_its_cause(
    answer: bytes, kind: type[SensorsyncError], words: str
) -> None:
    owner, wire, connection = feed([answer])

    error = connection.handshake.exception()
    assert wire.aborted
    assert isinstance(error, kind)
    assert words in str(error)
    assert error.hint
    assert owner.lost == []


def test_a_disconnect_before_connack_reports_its_reason() -> None:
    goodbye = mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.CONNECTION_RATE_EXCEEDED)

    _, _, connection = feed([goodbye.write()])

    assert "connection rate exceeded" in str(connection.handshake.exception())


def test_the_answer_to_an_earlier_ping_does_not_prove_that_the_broker_has_read_all_that_was_sent_since() -> None:
    async def scenario() -> None:
        connection = NativeConnection(OPTIONS, Owner())
        connection.connection_made(Wire())
        pong = mqtt5.PingRespPacket().write()
        hand_over(connection, CONNACK + pong)  # one that answers nothing is none
        connection._last_sent -= OPTIONS.keep_alive
        connection._check_keep_alive()  # keep-alive
        asked = asyncio.create_task(connection.ping(10))
        for _ in range(2):
            for _ in range(10):
                await asyncio.sleep(0)
            assert not asked.done()
            hand_over(connection, pong)
        assert await asked
        connection.connection_lost(None)

    asyncio.run(scenario())
