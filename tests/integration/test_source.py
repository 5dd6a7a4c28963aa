"""The native source against a scripted broker: windows, acks, epochs, resends, sessions."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import mqtt5
import pytest

from sensorsync.mqtt.client.errors import BrokerRefused, BrokerUnavailable, SessionTakenOver
from sensorsync.pipeline.contract import Reading
from sensorsync.pipeline.ingest import IngestLimits
from tests.fakes.broker import FakeBroker
from tests.pipelines import CLIENT, Box, Database, running, send, standing_at_the_gate, subscribed


def run(scenario: object) -> None:
    """Each test is one coroutine with its own loop."""
    asyncio.run(scenario)  # type: ignore[arg-type]


def test_trap_1_no_ack_leaves_before_the_commit(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            for number in range(20):
                await broker.publish("t/x", b"%d" % number)

            await standing_at_the_gate(pipeline.database)
            await pipeline.until(lambda: pipeline.meter.received == 20)
            assert broker.puback_ids() == []

            pipeline.database.gate.set()
            await broker.wait_for(lambda b: len(b.puback_ids()) == 20)
            assert len(pipeline.database.rows) == 20

    run(scenario())


def test_trap_1_a_bad_message_is_acknowledged_only_once_its_letter_is_in_the_box(tmp_path: Path) -> None:
    async def scenario() -> None:
        box = Box()
        box.available = False
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1, box=box) as pipeline:
            await subscribed(broker, pipeline)
            await broker.publish("t/x", b"bad")
            await pipeline.until(lambda: pipeline.meter.received == 1)
            await broker.publish("t/x", b"good")
            await pipeline.until(lambda: pipeline.database.rows == [b"good"])
            assert broker.puback_ids() == []

            box.available = True
            await broker.wait_for(lambda b: len(b.puback_ids()) == 2)
            assert [letter.payload for letter in box.letters] == [b"bad"]

    run(scenario())


def test_trap_2_a_late_ack_is_not_sent_on_a_new_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            broker.next_packet_id(CLIENT, 5)
            await broker.publish("t/x", b"old")
            await standing_at_the_gate(pipeline.database)

            broker.lose_sessions()
            broker.drop_connection()
            await pipeline.until(lambda: pipeline.meter.reconnects == 1)
            broker.next_packet_id(CLIENT, 5)
            second = broker.connection_number(CLIENT)
            newcomer = threading.Event()

            def hold_new(readings: Sequence[Reading]) -> None:
                if any(reading.event_id == b"new" for reading in readings):
                    newcomer.wait(10)

            pipeline.database.before_commit = hold_new
            await broker.publish("t/x", b"new")
            await pipeline.until(lambda: pipeline.meter.received == 2)

            pipeline.database.gate.set()
            await pipeline.until(lambda: pipeline.meter.settled == 1)
            await broker.publish("t/other", b"after")  # a round trip, so that a wrong ack would have arrived
            await pipeline.until(lambda: b"after" in pipeline.database.rows)
            assert broker.puback_ids(connection=second) == []

            newcomer.set()
            await broker.wait_for(lambda b: len(b.puback_ids(connection=second)) == 2)
            assert broker.puback_ids(connection=second)[0] == 5
            assert set(pipeline.database.rows) == {b"old", b"new", b"after"}

    run(scenario())


def test_a_lost_session_is_noticed_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            broker.lose_sessions()
            broker.drop_connection()
            await pipeline.until(lambda: pipeline.meter.sessions_lost == 1)

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert "no longer has the session" in caplog.text


def test_trap_4_the_acks_are_a_prefix_in_order_of_arrival_whatever_the_writers_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        database = Database()
        dice = random.Random(4)
        database.before_commit = lambda _: time.sleep(dice.random() * 0.01)
        async with (
            FakeBroker(window=200, queue_limit=None) as broker,
            running(broker.port, tmp_path, connections=1, workers=4, batch_size=10, database=database) as pipeline,
        ):
            await subscribed(broker, pipeline)
            for number in range(1000):
                await broker.publish("t/x", b"%d" % number)
            await broker.wait_for(lambda b: len(b.puback_ids()) == 1000, timeout=90)

            assert broker.puback_ids() == list(range(1, 1001))
            assert database.rows != sorted(database.rows, key=int)  # else the writers proved nothing

    run(scenario())


def test_trap_5_a_small_window_is_never_waited_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            FakeBroker(window=20, queue_limit=None) as broker,
            running(broker.port, tmp_path, connections=1) as pipeline,
        ):
            await subscribed(broker, pipeline)
            began = time.monotonic()
            for number in range(2000):
                await broker.publish("t/x", b"%d" % number)
            await pipeline.until(lambda: pipeline.meter.settled == 2000)

            # window / 200 ms would be 100 messages a second: 20 s for these
            assert time.monotonic() - began < 15
            assert pipeline.meter.flushes["stalled"] > pipeline.meter.flushes["linger"]

    run(scenario())


def test_trap_11_resends_of_an_unsettled_message_cost_no_memory_and_one_ack(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            broker.next_packet_id(CLIENT, 7)
            await broker.publish("t/x", b"seven")
            await standing_at_the_gate(pipeline.database)
            for _ in range(10):
                broker.resend(CLIENT, 7)
            await pipeline.until(lambda: pipeline.meter.resends == 10)
            assert pipeline.meter.queue_depth == 1

            pipeline.database.gate.set()
            await broker.wait_for(lambda b: b.puback_ids() == [7])
            await broker.publish("t/x", b"next")
            await pipeline.until(lambda: pipeline.meter.settled == 2)
            assert pipeline.database.rows == [b"seven", b"next"]
            assert broker.puback_ids().count(7) == 1

    run(scenario())


def test_trap_11_a_resend_that_crossed_our_ack_does_not_settle_the_ids_next_owner(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            broker.next_packet_id(CLIENT, 7)
            await broker.publish("t/x", b"seven")
            await broker.wait_for(lambda b: b.puback_ids() == [7])
            late = mqtt5.PublishPacket("t/x", b"seven", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=7, duplicate=True)

            broker.inject(CLIENT, late.write())
            await pipeline.until(lambda: pipeline.meter.settled == 2)
            assert broker.puback_ids() == [7]

            broker.next_packet_id(CLIENT, 7)
            await broker.publish("t/x", b"owner")
            await broker.wait_for(lambda b: b.puback_ids() == [7, 7])

    run(scenario())


def test_after_a_dropped_connection_what_was_unacknowledged_is_delivered_again_and_stored_once_more(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            for number in range(10):
                await broker.publish("t/x", b"%d" % number)
            await pipeline.until(lambda: pipeline.meter.received == 10)
            broker.drop_connection()
            await pipeline.until(lambda: pipeline.meter.received == 20)
            pipeline.database.gate.set()

            await pipeline.until(lambda: pipeline.meter.settled == 20)
            await broker.wait_for(lambda b: not b.sessions[CLIENT].inflight)
            assert set(pipeline.database.rows) == {b"%d" % number for number in range(10)}
            assert pipeline.meter.redelivered_rows == 10

    run(scenario())


def test_auto_opens_the_links_that_connacks_receive_maximum_calls_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = FakeBroker(receive_max=32, window=32, queue_limit=None)
        async with broker, running(broker.port, tmp_path, batch_size=200) as pipeline:
            await subscribed(broker, pipeline, links=25)  # 2 x 2 x 200 messages / 32
            assert len(broker.connected()) == 25
            for number in range(1000):
                await broker.publish("t/x", b"%d" % number)
            await pipeline.until(lambda: pipeline.meter.settled == 1000)
            used = {entry.client_id for entry in broker.seen if isinstance(entry.packet, mqtt5.PubAckPacket)}
            assert len(used) == 25

    run(scenario())


def test_auto_learns_a_window_that_the_broker_does_not_state(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = FakeBroker(window=20, queue_limit=None)
        async with broker, running(broker.port, tmp_path, workers=1, batch_size=200) as pipeline:
            await subscribed(broker, pipeline, links=16)
            assert len(broker.connected()) == 16
            sessions = list(broker.sessions.values())

            def wait_for_full_windows(_: Sequence[Reading]) -> None:
                """A database slower than the broker: each link has its window full again when the next batch is committed."""
                full = 16 * 20
                while len(broker.connected()) == 16 and any(session.undelivered() for session in sessions):
                    if pipeline.meter.received - pipeline.meter.settled == full:
                        break
                    time.sleep(0.001)

            pipeline.database.before_commit = wait_for_full_windows
            pipeline.database.gate.clear()
            await send(broker, 16 * 1000)
            pipeline.database.gate.set()
            await pipeline.until(lambda: len(broker.connected()) == 20)  # 2 x 1 x 200 messages / 20
            await pipeline.until(lambda: pipeline.meter.settled == 16 * 1000)

    run(scenario())


def test_a_slow_stream_is_not_taken_for_a_small_window(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker(window=5000) as broker, running(broker.port, tmp_path) as pipeline:
            await subscribed(broker, pipeline, links=16)
            for number in range(100):
                await broker.publish("t/x", b"%d" % number)
                await pipeline.until(lambda number=number: pipeline.meter.settled == number + 1)  # type: ignore[misc]
            assert len(broker.connected()) == 16

    run(scenario())


def test_a_second_instance_with_our_client_ids_ends_us_and_we_do_not_fight(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path / "one", connections=1) as pipeline:
            await subscribed(broker, pipeline)
            async with running(broker.port, tmp_path / "two", connections=1) as second:
                await subscribed(broker, second)
                with pytest.raises(SessionTakenOver):
                    await asyncio.wait_for(pipeline.task, 5)
                assert second.source.connected
            assert len(broker.packets(mqtt5.ConnectPacket)) == 2

    run(scenario())


def test_a_refused_password_ends_the_start_with_what_to_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = FakeBroker(credentials={"sensors": b"right"})
        async with broker, running(broker.port, tmp_path, username="sensors", password="wrong") as pipeline:
            with pytest.raises(BrokerRefused, match="bad user name or password") as caught:
                await asyncio.wait_for(pipeline.task, 5)
            assert "mqtt.password" in str(caught.value.hint)

    run(scenario())


def test_a_refused_subscription_ends_the_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = FakeBroker(suback_codes={"$share/sensorsync/t/#": mqtt5.SubAckReasonCode.NOT_AUTHORIZED})
        async with broker, running(broker.port, tmp_path, connections=1) as pipeline:
            with pytest.raises(BrokerRefused, match="not authorized"):
                await asyncio.wait_for(pipeline.task, 5)

    run(scenario())


def test_a_subscription_granted_with_qos_0_only_is_refused_by_us(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = FakeBroker(suback_codes={"$share/sensorsync/t/#": mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE})
        async with broker, running(broker.port, tmp_path, connections=1) as pipeline:
            with pytest.raises(BrokerRefused, match="only QoS 0"):
                await asyncio.wait_for(pipeline.task, 5)

    run(scenario())


def test_a_broker_that_never_answers_is_given_up_after_the_connect_timeout(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = FakeBroker(answer_connect=False)
        async with broker, running(broker.port, tmp_path, connect_timeout=0.2) as pipeline:
            with pytest.raises(BrokerUnavailable, match="did not answer within"):
                await asyncio.wait_for(pipeline.task, 5)

    run(scenario())


def test_a_black_hole_is_noticed_by_the_keep_alive_and_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1, keep_alive=1) as pipeline:
            await subscribed(broker, pipeline)
            broker.swallow(CLIENT)
            await pipeline.until(lambda: pipeline.meter.reconnects == 1)
            await broker.publish("t/x", b"after")
            await pipeline.until(lambda: b"after" in pipeline.database.rows)

    run(scenario())


def test_bytes_that_are_not_mqtt_cost_the_connection_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            broker.inject(CLIENT, b"\xff\xff\xff\xff\xff\xff")
            await pipeline.until(lambda: pipeline.meter.reconnects == 1)
            await broker.publish("t/x", b"after")
            await pipeline.until(lambda: b"after" in pipeline.database.rows)

    run(scenario())


# The codec panics on it, and says so to Python's unraisable hook, too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_message_whose_topic_is_not_utf_8_is_parked_and_does_not_stop_the_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            broker.inject(CLIENT, b"\x32\x09\x00\x03t/\xff\x02\x01\x00x")
            await broker.publish("t/x", b"after")
            await broker.wait_for(lambda b: len(b.puback_ids()) == 2)

            assert pipeline.database.rows == [b"after"]
            (letter,) = pipeline.box.letters
            assert (letter.reason, letter.topic, letter.payload) == ("mqtt", "t/\\xff", b"x")
            assert broker.puback_ids()[0] == 0x0201
            assert pipeline.meter.reconnects == 0

    run(scenario())


def test_a_message_larger_than_a_read_arrives_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            big = b"x" * 1_500_000
            await broker.publish("t/x", big)
            await broker.publish("t/x", b"small")
            await pipeline.until(lambda: pipeline.database.rows == [big, b"small"])

    run(scenario())


def test_unprocessed_messages_are_redelivered_and_a_slow_database_does_not_count_as_that(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1, ack_timeout=0.2) as pipeline:
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            await broker.publish("t/x", b"slow")
            await standing_at_the_gate(pipeline.database)
            await asyncio.sleep(0.5)  # there is nothing to wait for: nothing must happen
            pipeline.database.gate.set()
            await pipeline.until(lambda: pipeline.meter.settled == 1)
            assert pipeline.meter.reconnects == 0

            inlet = pipeline.source._inlet
            with monkeypatch.context() as patch:
                patch.setattr(inlet, "receive", lambda deliveries, *, more: None)
                await broker.publish("t/x", b"forgotten")
                await pipeline.until(lambda: pipeline.source._links[0].ledger.in_flight == 1)
            await pipeline.until(lambda: pipeline.database.rows == [b"slow", b"forgotten"])
            await pipeline.until(lambda: pipeline.meter.reconnects == 1)

    with caplog.at_level(logging.ERROR):
        run(scenario())
    assert "was received but never processed" in caplog.text


def test_qos_0_messages_are_bounded_by_leaving_them_in_the_socket(tmp_path: Path) -> None:
    async def scenario() -> None:
        limits = IngestLimits(queue_limit=1000, stop_timeout=5.0)
        async with (
            FakeBroker() as broker,
            running(broker.port, tmp_path, connections=1, limits=limits) as pipeline,
        ):
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            payload = b"x" * 2000
            for _ in range(5000):
                await broker.publish("t/x", payload, qos=0)
            await standing_at_the_gate(pipeline.database)
            await pipeline.until(lambda: pipeline.meter.received > 1000)
            assert pipeline.meter.received < 2500  # the limit and what one read of the socket held

            pipeline.database.gate.set()
            await pipeline.until(lambda: pipeline.meter.settled == 5000)

    run(scenario())


def test_max_messages_leaves_the_rest_unacknowledged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker(window=100) as broker:
            async with running(broker.port, tmp_path, connections=1, limits=IngestLimits(max_messages=30)) as pipeline:
                await subscribed(broker, pipeline)
                for number in range(80):
                    await broker.publish("t/x", b"%d" % number)
                await asyncio.wait_for(pipeline.task, 5)
            assert len(pipeline.database.rows) == len(broker.puback_ids()) == 30

            async with running(broker.port, tmp_path, connections=1, limits=IngestLimits(until_idle=0.2)) as second:
                await asyncio.wait_for(second.task, 5)
            assert sorted(pipeline.database.rows + second.database.rows, key=int) == [b"%d" % n for n in range(80)]

    run(scenario())


def test_a_soft_stop_writes_what_was_taken_over_acknowledges_it_and_keeps_the_session(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker, running(broker.port, tmp_path, connections=1) as pipeline:
            await subscribed(broker, pipeline)
            pipeline.database.gate.clear()
            for number in range(10):
                await broker.publish("t/x", b"%d" % number)
            await pipeline.until(lambda: pipeline.meter.received == 10)
            pipeline.stop.request("test")
            await broker.publish("t/x", b"too late")
            pipeline.database.gate.set()
            await pipeline.task

            assert len(broker.puback_ids()) == 10
            assert b"too late" not in pipeline.database.rows
            assert len(broker.packets(mqtt5.DisconnectPacket)) == 1
            assert broker.packets(mqtt5.UnsubscribePacket) == []
            assert CLIENT in broker.sessions

    run(scenario())


def test_ending_a_session_drains_it_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker(window=4, queue_limit=None) as broker:
            limits = IngestLimits(end_sessions=True, stop_timeout=5.0)
            async with running(broker.port, tmp_path, connections=1, on_stop="leave", limits=limits) as pipeline:
                await subscribed(broker, pipeline)
                for number in range(100):
                    await broker.publish("t/x", b"%d" % number)
                pipeline.stop.request("test")
                await pipeline.task
                assert len(pipeline.database.rows) == 100
            await broker.wait_for(lambda b: CLIENT not in b.sessions)

    run(scenario())


def test_a_link_that_is_no_longer_configured_is_drained_and_its_session_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker(queue_limit=None) as broker:
            async with running(broker.port, tmp_path, connections=3) as pipeline:
                await subscribed(broker, pipeline, links=3)
                await pipeline.end()
            for number in range(30):
                await broker.publish("t/x", b"%d" % number)

            async with running(broker.port, tmp_path, connections=1) as pipeline:
                await pipeline.until(lambda: len(pipeline.database.rows) == 30)
                await pipeline.until(lambda: len(broker.sessions) == 1)
                await pipeline.until(lambda: pipeline.source.connected)
            assert list(broker.sessions) == [CLIENT]

    run(scenario())


def test_changing_the_topics_takes_the_old_subscription_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker:
            async with running(broker.port, tmp_path, connections=1) as pipeline:
                await subscribed(broker, pipeline)
                await pipeline.end()
            async with running(broker.port, tmp_path, connections=1, topics=["u/#"]) as pipeline:
                await pipeline.until(lambda: set(broker.sessions[CLIENT].subscriptions) == {"$share/sensorsync/u/#"})

    run(scenario())
