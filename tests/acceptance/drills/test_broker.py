"""Drills on the broker and the way to it. What it has not forgotten itself is stored, once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.acceptance.drills.harness import Drill
from tests.acceptance.drills.load import Load
from tests.fakes import InThread, TcpProxy
from tests.services import Mosquitto

pytestmark = [pytest.mark.acceptance, pytest.mark.broker, pytest.mark.database, pytest.mark.timeout(360)]


def through(proxy: InThread[TcpProxy]) -> str:
    """The broker, behind the proxy."""
    return f"127.0.0.1:{proxy.port}"


def test_a_broker_restarted_with_persistence_loses_nothing(tmp_path: Path) -> None:
    with Drill(tmp_path, broker=Mosquitto(persistence=True)) as drill:
        with drill.load(SENSORSYNC_MQTT__CONNECTIONS=4) as load:
            load.reaches(1_500)
            with load.publisher_cut_off():  # until we are back: see the next drill
                drill.broker.restart()
                load.says("link_up", times=4)
            stopped = load.finishes()
        assert (stopped["sessions_lost"], stopped["reconnects"]) == (0, 4)
        drill.audit()


@pytest.mark.long
def test_what_mosquitto_refuses_between_its_restart_and_our_return_is_told_to_the_publisher(tmp_path: Path) -> None:
    # It keeps sessions over a restart, but no shared subscriptions (2.0.11, 2.1.2): until we subscribe again it answers 0x10.
    with Drill(tmp_path, broker=Mosquitto(persistence=True)) as drill:
        with drill.load() as load:
            load.reaches(1_500)
            drill.broker.restart()
            load.says("link_up")
            published = load.publishes()
            load.stops()
            load.start("--until-idle", "5s")
            load.ends(0)
        assert published["acked"] + published["no_subscriber"] == drill.messages
        # "At most": a message may have been taken before the restart, and refused when it was sent again.
        assert drill.audit(may_lose=True)["missing"] <= published["no_subscriber"]


def test_a_broker_restarted_without_persistence_is_reported_and_its_losses_are_named(drill: Drill) -> None:
    with drill.load() as load:
        load.reaches(1_500)
        drill.broker.restart()
        load.says("session_lost")
        published = load.publishes()
        stopped = load.stops()
        load.start("--until-idle", "5s")
        load.ends(0)
    assert stopped["sessions_lost"] > 0
    assert published["acked"] + published["no_subscriber"] == drill.messages
    found = drill.audit(may_lose=True)
    named = sum(lost["last"] - lost["first"] + 1 for lost in found["missing_ranges"])
    assert named == found["missing"] < drill.messages - 1_500
    assert found["missing"] == 0 or "restarted without persistence" in found["likely_cause"]


def unreachable(drill: Drill, load: Load, proxy: InThread[TcpProxy], seconds: float) -> None:
    """Cut the subscriber off for so long."""
    since = time.monotonic()
    proxy.set(refusing=True)
    proxy.do(lambda p: p.cut())
    load.says("link_lost", times=3)
    load.waits(lambda: time.monotonic() - since >= seconds, f"{seconds:g} s of absence")
    proxy.do(lambda p: p.heal())
    load.says("link_up")


@pytest.mark.parametrize("seconds", [2.0, pytest.param(30.0, marks=pytest.mark.long)])
def test_an_unreachable_broker_is_called_again_and_has_kept_everything(drill: Drill, seconds: float) -> None:
    with InThread(TcpProxy(drill.broker.port)) as proxy, drill.load(MQTT_BROKER=through(proxy)) as load:
        load.reaches(1_500)
        unreachable(drill, load, proxy, seconds)
        stopped = load.finishes()
    assert stopped["sessions_lost"] == 0
    drill.audit()


def test_a_broker_behind_a_black_hole_is_given_up_after_the_keep_alive_and_found_again(drill: Drill) -> None:
    with InThread(TcpProxy(drill.broker.port)) as proxy, drill.load(MQTT_BROKER=through(proxy)) as load:
        load.reaches(1_500)
        proxy.do(lambda p: p.swallow())
        load.says("link_lost")
        proxy.do(lambda p: p.heal())
        load.says("link_up")
        stopped = load.finishes()
    assert stopped["sessions_lost"] == 0
    drill.audit()


@pytest.mark.long
def test_a_frozen_broker_is_given_up_and_found_again(drill: Drill) -> None:
    with drill.load() as load:
        load.reaches(1_500)
        drill.broker.freeze()
        load.says("link_lost")
        drill.broker.thaw()
        load.says("link_up")
        load.finishes()
    drill.audit()


@pytest.mark.long
def test_a_broker_a_fifth_of_a_second_away_is_slow_and_whole(drill: Drill) -> None:
    far = TcpProxy(drill.broker.port, delay_up=0.1, delay_down=0.1)
    with InThread(far) as proxy, drill.load(MQTT_BROKER=through(proxy)) as load:
        load.finishes()
    drill.audit()


@pytest.mark.parametrize("messages", [20_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_messages_that_wait_arrive_at_once_and_memory_stays_bounded(tmp_path: Path, messages: int) -> None:
    with Drill(tmp_path, messages=messages) as drill:
        with drill.storm() as load:
            load.start(SENSORSYNC_PIPELINE__QUEUE_LIMIT=3000, SENSORSYNC_PIPELINE__STATUS_EVERY=2000)
            load.stores(messages)
            depths = [status["queue_depth"] for status in load.says("status", times=5)]
            assert load.stops()["unacknowledged"] == 0
        assert max(depths) < 3000 + 1000, "the limit, and what one read of the socket may bring beyond it"
        drill.audit()
