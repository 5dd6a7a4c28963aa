"""The window of one publishing client: what may leave, what each PUBACK settles, what is sent again."""

from __future__ import annotations

from itertools import cycle, repeat

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from mqtt5 import PubAckPacket, PubAckReasonCode, PublishPacket

from sensorsync.mqtt.publisher.inflight import InFlightPublishes, PublishStats


def outbox(window: int = 10) -> tuple[InFlightPublishes, PublishStats]:
    stats = PublishStats()
    made = InFlightPublishes(repeat("t/x"), stats)
    made.window = window
    return made, stats


def ack(packet_id: int, code: PubAckReasonCode = PubAckReasonCode.SUCCESS) -> PubAckPacket:
    return PubAckPacket(packet_id, reason_code=code)


def test_new_messages_are_published_as_qos_1_with_ids_of_their_own() -> None:
    made, stats = outbox()
    sent = made.publish([b"a", b"b"], repeat(0.0))
    assert [(p.topic, bytes(p.payload), p.packet_id, p.duplicate) for p in sent] == [
        ("t/x", b"a", 1, False),
        ("t/x", b"b", 2, False),
    ]
    assert {int(p.qos) for p in sent} == {1}
    assert (made.free_slots, stats.sent) == (8, 2)


def test_an_ack_makes_room_and_its_id_is_used_again_after_the_unused_ones_that_were_freed_before() -> None:
    made, stats = outbox()
    made.publish([b"a", b"b", b"c"], repeat(0.0))
    made.receive_acks([ack(2), ack(1)], 0.5)
    assert (made.free_slots, stats.acked) == (9, 2)
    assert [p.packet_id for p in made.publish([b"d", b"e", b"f"], repeat(1.0))] == [2, 1, 4]


def test_acknowledgements_are_counted_by_reason_code() -> None:
    made, stats = outbox()
    made.publish([b"a", b"b", b"c", b"d"], repeat(0.0))
    codes = (PubAckReasonCode.NO_MATCHING_SUBSCRIBERS, PubAckReasonCode.NOT_AUTHORIZED, PubAckReasonCode.QUOTA_EXCEEDED)
    made.receive_acks([ack(1), *(ack(number, code) for number, code in enumerate(codes, 2))], 0.5)
    assert (stats.acked, stats.no_subscriber, stats.failed, stats.answered) == (1, 1, 2, 4)
    assert stats.reason_codes == {0x10: 1, 0x87: 1, 0x97: 1}
    assert made.empty


def test_an_ack_with_an_unknown_id_is_ignored() -> None:
    made, stats = outbox()
    made.publish([b"a"], repeat(0.0))
    made.receive_acks([ack(9), ack(1), ack(1)], 0.5)
    assert stats.acked == 1
    assert stats.latency.count == 1


def test_latency_counts_from_the_first_sending_in_microseconds() -> None:
    made, stats = outbox()
    made.publish([b"a", b"b"], repeat(10.0))
    made.publish([b"c"], repeat(10.5))
    made.connection_lost()
    made.window = 10
    made.resend(10)
    made.receive_acks([ack(1), ack(3), ack(2)], 11.0)
    assert stats.latency.count == 3
    assert stats.latency.maximum == 1_000_000
    assert stats.latency.minimum == 500_000
    assert stats.latency_sum == 2.5


def test_in_an_open_loop_latency_counts_from_when_each_message_was_due() -> None:
    made, stats = outbox()
    made.publish([b"a", b"b", b"c"], [10.0, 10.1, 10.9])
    made.receive_acks([ack(1), ack(2), ack(3)], 11.0)
    assert stats.latency.count == 3
    for percentile, seconds in ((1, 0.1), (50, 0.9), (100, 1.0)):
        assert abs(stats.latency.percentile(percentile) - seconds * 1e6) < 1000


def test_a_message_is_sent_again_to_the_topic_that_it_was_sent_to() -> None:
    made = InFlightPublishes(cycle(["t/0", "t/1", "t/2"]), PublishStats())
    made.window = 10
    made.publish([b"a", b"b"], repeat(0.0))
    made.connection_lost()
    made.window = 10
    again = made.resend(10)
    new = made.publish([b"c", b"d"], repeat(0.0))
    assert [(packet.topic, bytes(packet.payload)) for packet in (*again, *new)] == [
        ("t/0", b"a"),
        ("t/1", b"b"),
        ("t/2", b"c"),
        ("t/0", b"d"),
    ]


def test_what_is_unacknowledged_is_sent_again_with_dup_in_its_order_before_anything_new() -> None:
    made, stats = outbox()
    made.publish([b"a", b"b", b"c"], repeat(0.0))
    made.receive_acks([ack(2)], 0.1)
    made.connection_lost()
    assert (made.free_slots, made.has_resends) == (0, True)
    assert made.resend(10) == []

    made.window = 10
    assert made.free_slots == 0
    again = made.resend(10)
    assert [(bytes(p.payload), p.packet_id, p.duplicate) for p in again] == [(b"a", 1, True), (b"c", 3, True)]
    assert (made.free_slots, stats.retransmitted, stats.sent) == (8, 2, 3)


def test_resending_keeps_within_a_smaller_window_of_the_next_connection() -> None:
    made, _ = outbox(window=5)
    made.publish([b"a", b"b", b"c", b"d", b"e"], repeat(0.0))
    made.connection_lost()
    made.window = 2
    assert len(made.resend(10)) == 2
    assert made.resend(10) == []
    made.receive_acks([ack(1)], 0.1)
    assert [bytes(p.payload) for p in made.resend(10)] == [b"c"]
    assert made.free_slots == 0


def test_a_second_loss_keeps_the_first_order() -> None:
    made, _ = outbox(window=4)
    made.publish([b"a", b"b", b"c", b"d"], repeat(0.0))
    made.connection_lost()
    made.window = 2
    made.resend(10)
    made.connection_lost()
    made.window = 4
    assert [bytes(p.payload) for p in made.resend(10)] == [b"a", b"b", b"c", b"d"]


def test_a_message_without_a_subscriber_is_returned_uncounted_while_awaiting_one() -> None:
    made, stats = outbox()
    made.awaiting_subscriber = True
    made.publish([b"a"], repeat(0.0))
    made.receive_acks([ack(1, PubAckReasonCode.NO_MATCHING_SUBSCRIBERS)], 0.1)
    assert (made.undelivered, stats.sent, stats.answered, stats.reason_codes) == ([b"a"], 0, 0, {})
    made.publish(made.undelivered, repeat(0.2))
    made.receive_acks([ack(1)], 0.3)
    assert (stats.sent, stats.acked) == (1, 1)


class AnyOrderOfEvents(RuleBasedStateMachine):
    """Whatever happens: the window holds, ids are unique and in range, and no message is lost or settled twice."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox, self.stats = outbox(window=0)
        self.made = 0
        self.settled: list[bytes] = []
        self.wire: dict[int, bytes] = {}

    def _written(self, packets: list[PublishPacket]) -> None:
        for packet in packets:
            assert packet.packet_id is not None
            assert 1 <= packet.packet_id <= 65535
            assert packet.packet_id not in self.wire
            self.wire[packet.packet_id] = bytes(packet.payload)

    @precondition(lambda self: self.outbox.window == 0)
    @rule(window=st.integers(1, 6))
    def connect(self, window: int) -> None:
        self.outbox.window = window

    @rule()
    def lose(self) -> None:
        self.outbox.connection_lost()
        self.wire.clear()

    @rule(count=st.integers(1, 6))
    def send(self, count: int) -> None:
        payloads = [b"%d" % (self.made + n) for n in range(max(0, min(count, self.outbox.free_slots)))]
        self.made += len(payloads)
        self._written(self.outbox.publish(payloads, repeat(0.0)))

    @rule(limit=st.integers(1, 6))
    def resend(self, limit: int) -> None:
        self._written(self.outbox.resend(limit))

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        packet_id = data.draw(st.sampled_from(sorted(self.wire)))
        self.settled.append(self.wire.pop(packet_id))
        self.outbox.receive_acks([ack(packet_id)], 1.0)

    @invariant()
    def the_window_holds(self) -> None:
        assert len(self.wire) <= max(self.outbox.window, 0)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert len(set(self.settled)) == len(self.settled) == self.stats.acked
        assert self.outbox.empty == (len(self.settled) == self.made)


TestAnyOrderOfEvents = AnyOrderOfEvents.TestCase
TestAnyOrderOfEvents.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
