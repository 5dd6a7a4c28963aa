"""A peer that lies about lengths, or sends more than memory has room for."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from unittest import mock

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.mqtt.client import broken_packets as frames
from sensorsync.mqtt.client import native as connection
from sensorsync.mqtt.client.broken_packets import MAX_PACKET, BrokenPublish
from sensorsync.mqtt.client.errors import BrokerUnavailable, connack_error, disconnect_error
from sensorsync.mqtt.client.native import READ_CHUNK
from sensorsync.mqtt.subscriber.deliveries import MAX_PROPERTIES_SIZE, deliveries_from_packets
from sensorsync.pipeline.counters import PipelineCounters
from sensorsync.pipeline.ledger import AckLedger
from tests.unit.mqtt.client.test_native import CONNACK, feed, split

HUGEST = b"\xff\xff\xff\x7f"
"""The largest remaining length: 268,435,455 bytes."""
AFTER = mqtt5.PublishPacket("t", b"after", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=9)


def publish(payload: bytes, **members: object) -> bytes:
    return mqtt5.PublishPacket("t/x", payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=7, **members).write()  # type: ignore[arg-type]


def reads(data: bytes) -> Iterator[bytes]:
    """As asyncio reads it off a socket."""
    return (data[start : start + READ_CHUNK] for start in range(0, len(data), READ_CHUNK))


@contextmanager
def bound(size: int) -> Iterator[None]:
    """A packet counts as huge from here on."""
    with mock.patch.object(frames, "MAX_PACKET", size), mock.patch.object(connection, "MAX_PACKET", size):
        yield


# -- huge packets ------------------------------------------------------------------------------------------------------


def test_a_huge_message_comes_with_its_beginning_and_digest_and_the_next_one_comes_whole() -> None:
    payload = bytes(range(256)) * (3 * MAX_PACKET // 256)

    owner, wire, _ = feed([CONNACK, *reads(publish(payload, duplicate=True) + AFTER.write())])

    huge, after = owner.packets
    assert isinstance(huge, BrokenPublish)
    assert (huge.topic, huge.packet_id, huge.duplicate) == ("t/x", 7, True)
    assert len(huge.payload) > MAX_PACKET - 100
    assert payload.startswith(huge.payload)
    assert hashlib.sha256(payload).hexdigest() in huge.error
    assert f"{len(publish(payload))} bytes" in huge.error
    assert after == AFTER
    assert not wire.aborted


def test_a_packet_of_the_largest_size_that_mqtt_allows_takes_no_more_memory_than_the_bound() -> None:
    head = b"\x32" + HUGEST + b"\x00\x01t\x00\x07\x00"
    chunk = bytes(READ_CHUNK)
    whole, rest = divmod(268_435_460 - len(head), READ_CHUNK)
    tracemalloc.start()
    try:
        owner, _, _ = feed(chain([CONNACK, head], (chunk for _ in range(whole)), [chunk[:rest]]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    (huge,) = owner.packets
    assert isinstance(huge, BrokenPublish)
    assert "268435460 bytes" in huge.error
    assert peak < 5 * MAX_PACKET


@given(st.binary(min_size=90, max_size=400), st.lists(st.integers(0, 500), max_size=9), st.booleans())
def test_a_huge_message_is_the_same_however_it_is_cut(payload: bytes, cuts: list[int], qos_0: bool) -> None:
    stream = mqtt5.PublishPacket("t", payload).write() if qos_0 else publish(payload)
    with bound(64):
        owner, wire, _ = feed(
            [CONNACK, *chain.from_iterable(reads_of_at_most(40, split(stream + AFTER.write(), cuts)))]
        )

    huge, after = owner.packets
    assert isinstance(huge, BrokenPublish)
    assert huge.packet_id == (None if qos_0 else 7)
    assert payload.startswith(huge.payload)
    assert len(huge.payload) == 64 - (len(stream) - len(payload))
    assert hashlib.sha256(payload).hexdigest() in huge.error
    assert after == AFTER
    assert not wire.aborted


def reads_of_at_most(size: int, chunks: list[bytes]) -> Iterator[list[bytes]]:
    for chunk in chunks:
        yield [chunk[start : start + size] for start in range(0, len(chunk), size)]


@given(st.integers(0, 255), st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_for_any_huge_packet_nothing_is_raised_and_it_is_not_a_whole_packet(
    first: int, rest: bytes, cuts: list[int]
) -> None:
    with bound(32):
        owner, _, _ = feed([CONNACK, *split(bytes([first]) + HUGEST + rest, cuts)])

    assert owner.packets == []
    assert len(owner.lost) == 1


@pytest.mark.parametrize(
    ("what", "first"),
    [
        ("CONNACK again", 0x20),
        ("PUBACK", 0x40),
        ("SUBACK", 0x90),
        ("PINGRESP", 0xD0),
        ("DISCONNECT", 0xE0),
        ("AUTH", 0xF0),
    ],
)
def test_nothing_but_a_message_may_be_huge(what: str, first: int) -> None:
    owner, wire, _ = feed([CONNACK, bytes([first]) + HUGEST])

    assert wire.aborted, what
    assert "a packet of 268435460 bytes that is no message" in str(owner.lost[0])


def test_a_connack_that_states_a_huge_length_is_not_waited_for() -> None:
    owner, wire, made = feed([b"\x20" + HUGEST + b"\x00\x00"])

    assert wire.aborted
    assert isinstance(made.handshake.exception(), BrokerUnavailable)
    assert owner.ready == 0


@pytest.mark.parametrize(
    "head",
    [b"\x34\xff\xff\xff\x7f\x00\x01t\x00\x07\x00", b"\x32\xff\xff\xff\x7f\x00\x01t\x00\x00\x00"],
    ids=["QoS 2, which we never ask for", "packet id 0"],
)
def test_a_huge_message_that_makes_no_sense_is_refused_before_its_end(head: bytes) -> None:
    with bound(64):
        owner, wire, _ = feed([CONNACK, head, bytes(100)])

    assert wire.aborted
    assert "makes no sense" in str(owner.lost[0])


def test_properties_larger_than_the_bound_are_taken_for_a_part_of_the_payload() -> None:
    packet = publish(b"payload", user_properties=[("name", "v" * 50)] * 10)
    with bound(64):
        owner, _, _ = feed([CONNACK, *(packet[start : start + 32] for start in range(0, len(packet), 32))])

    (huge,) = owner.packets
    assert isinstance(huge, BrokenPublish)
    assert (huge.topic, huge.packet_id) == ("t/x", 7)
    after_the_id = packet[10:]
    assert after_the_id.startswith(huge.payload)
    assert hashlib.sha256(after_the_id).hexdigest() in huge.error


# -- lies about lengths ------------------------------------------------------------------------------------------------


LIES = {
    "remaining length of five bytes": b"\x32\xff\xff\xff\xff\x01\x00\x01t",
    "topic longer than the packet": b"\x32\x07\xff\xff\x74\x00\x07\x00x",
    "no room for the packet id": b"\x32\x03\x00\x01t",
    "no room for the topic's length": b"\x30\x01\x00",
    "an empty message": b"\x30\x00",
    "SUBACK without a packet id": b"\x90\x01\x00",
    "PUBACK without a packet id": b"\x40\x00",
    "reserved kind of packet": b"\x00\x00",
    "QoS 3": b"\x36\x07\x00\x01t\x00\x07\x00x",
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_packet_whose_lengths_are_lies_ends_the_connection_and_nothing_is_taken_from_it(lie: bytes) -> None:
    owner, wire, _ = feed([CONNACK + AFTER.write() + lie, bytes(300)])

    assert owner.packets[:1] == [AFTER]
    assert not [packet for packet in owner.packets if isinstance(packet, BrokenPublish)]
    assert wire.aborted
    assert isinstance(owner.lost[0], BrokerUnavailable)
    assert "not MQTT 5" in str(owner.lost[0])


@pytest.mark.parametrize(
    "properties",
    [b"\x7f", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff\x01", b"\x03\x26\xff\xff"],
    ids=["beyond the packet", "far beyond the packet", "five bytes", "a text beyond the properties"],
)
def test_a_message_whose_properties_are_lies_has_an_end_and_an_id_and_so_is_parked(properties: bytes) -> None:
    body = b"\x00\x01t\x00\x07" + properties + b"payload"

    owner, wire, _ = feed([CONNACK + bytes([0x32, len(body)]) + body + AFTER.write()])

    broken, after = owner.packets
    assert isinstance(broken, BrokenPublish)
    assert broken.packet_id == 7
    assert broken.payload.endswith(b"payload")
    assert broken.error
    assert after == AFTER
    assert not wire.aborted


def test_less_than_was_announced_is_waited_for_and_never_a_message() -> None:
    whole = publish(b"x" * 1000)

    owner, wire, _ = feed([CONNACK, whole[:-1]])

    assert owner.packets == []
    assert not wire.aborted


# -- what a message and an answer may bring along -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "properties",
    [
        {"user_properties": [("", "")] * 50_000},
        {"user_properties": [("name", "v" * 60_000)]},
        {"correlation_data": bytes(60_000)},
        {"content_type": "x" * 60_000},
        {"response_topic": "x" * 60_000},
    ],
    ids=lambda properties: next(iter(properties)),
)
def test_properties_are_kept_up_to_a_bound(properties: dict[str, object]) -> None:
    (packet, _) = mqtt5.read(memoryview(publish(b"x", **properties)))
    small, _ = mqtt5.read(memoryview(publish(b"small", user_properties=[("a", "b")])))

    deliveries, _ = deliveries_from_packets([packet, small], AckLedger(0), PipelineCounters(0.0))

    assert str(MAX_PROPERTIES_SIZE) in str(deliveries[0].properties)
    assert len(str(deliveries[0].properties)) < 200
    assert deliveries[1].properties == {"user_properties": [["a", "b"]]}


def test_the_answer_to_a_request_is_found_among_packets_that_nobody_asked_for() -> None:
    answer = mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED])
    stray, second = mqtt5.PubAckPacket(7), mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED])

    _, found = deliveries_from_packets([stray, answer, stray, second], AckLedger(0), PipelineCounters(0.0))

    assert found is answer


def test_a_reason_string_is_shown_up_to_a_bound() -> None:
    refused = mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.SERVER_BUSY, reason_str="x" * 60_000)
    goodbye = mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SERVER_BUSY, reason_str="y" * 60_000)

    for error in (connack_error("broker:1883", refused), disconnect_error("broker:1883", goodbye)):
        assert 500 < len(str(error)) < 700
