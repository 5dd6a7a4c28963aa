"""`map --live` takes nothing away from anybody, and `map` from the command line to its exit code."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import mqtt5
import pytest

from sensorsync.commands import map as command
from sensorsync.commands.result import CommandResult
from sensorsync.config import Settings
from sensorsync.errors import SensorsyncError, UsageError
from sensorsync.mqtt.client.errors import BrokerRefused, BrokerUnavailable
from tests.commands import Commands
from tests.conftest import Mosquitto
from tests.fakes import FakeBroker
from tests.services import eventually

ENGINES = pytest.mark.parametrize("engine", ["native", "paho"])
TOPIC = "sensors/live/x"


def reading(number: int) -> bytes:
    """One that is stored."""
    ts = "2026-01-02T03:04:05Z"
    return json.dumps({"event_id": str(number), "device_id": "d", "metric": "m", "ts": ts, "value": number}).encode()


def listening(
    messages: int,
    scenario: Callable[[FakeBroker], Awaitable[None]],
    *,
    topics: tuple[str, ...] = (),
    timeout: float = 20.0,
    **mqtt: object,
) -> tuple[FakeBroker, CommandResult]:
    """`map --live` with a broker on which `scenario` happens once it has subscribed."""

    async def both() -> tuple[FakeBroker, CommandResult]:
        async with FakeBroker(queue_limit=None) as broker:
            settings = Settings.model_validate({"mqtt": {"host": "127.0.0.1", "port": broker.port, **mqtt}})
            live = asyncio.create_task(command.map_live(settings, command.LiveOptions(messages, topics, timeout)))
            happening = asyncio.create_task(_once_subscribed(broker, scenario))
            result = await live
            await happening
            await broker.wait_for(lambda one: not one.connected())
            return broker, result

    return asyncio.run(both())


async def _once_subscribed(broker: FakeBroker, scenario: Callable[[FakeBroker], Awaitable[None]]) -> None:
    await broker.wait_for(lambda one: any(session.subscriptions for session in one.sessions.values()))
    await scenario(broker)


async def _nothing(_: FakeBroker) -> None:
    pass


def values(result: CommandResult) -> list[float]:
    return [row["columns"]["value"] for message in result.data["messages"] for row in message["rows"]]


# -- listening in ----------------------------------------------------------------------------------------------------------


@ENGINES
def test_it_subscribes_with_its_own_client_id_a_clean_session_no_group_and_qos_0(engine: str) -> None:
    async def scenario(broker: FakeBroker) -> None:
        for number in range(3):
            await broker.publish(TOPIC, reading(number), user_properties=(("a", "b"),))

    broker, result = listening(3, scenario, client=engine)
    (connect,) = broker.packets(mqtt5.ConnectPacket)
    (subscribe,) = broker.packets(mqtt5.SubscribePacket)
    assert (connect.clean_start, connect.session_expiry_interval) == (True, 0)
    assert connect.client_id.startswith("sensorsync-map-")
    assert [(int(one.max_qos), one.pattern) for one in subscribe.topic_filters] == [(0, "sensors/live/#")]
    assert broker.packets(mqtt5.PubAckPacket) == []
    assert broker.sessions == {}, "its session is gone with it"
    assert (result.exit_code, values(result)) == (0, [0.0, 1.0, 2.0])


@ENGINES
def test_it_ends_after_so_many_messages_however_many_come(engine: str) -> None:
    async def scenario(broker: FakeBroker) -> None:
        for number in range(1000):
            await broker.publish(TOPIC, reading(number))

    _, result = listening(20, scenario, client=engine)
    assert values(result) == [float(number) for number in range(20)]
    assert result.data["listened"]["wanted"] == 20


def test_fewer_messages_than_asked_for_are_shown_when_the_time_is_over() -> None:
    async def scenario(broker: FakeBroker) -> None:
        await broker.publish("plant/7", b"231.7")

    _, result = listening(20, scenario, topics=("plant/+", "other"), timeout=0.5)
    assert [message["topic"] for message in result.data["messages"]] == ["plant/7"]
    assert result.data["listened"]["topics"] == ["plant/+", "other"]
    assert [problem.code for problem in result.problems] == ["rejected"]


def test_not_one_message_is_exit_code_5_and_says_on_which_topics() -> None:
    _, result = listening(1, _nothing, timeout=0.4)
    assert result.exit_code == 5
    assert [(one.code, one.message) for one in result.problems] == [
        ("no_message", "no message came on sensors/live/# in 0 s")
    ]


def test_retained_messages_are_passed_over_for_they_are_not_what_is_published_now() -> None:
    async def scenario(broker: FakeBroker) -> None:
        await broker.publish(TOPIC, reading(1), retain=True)
        await broker.publish(TOPIC, reading(2))

    _, result = listening(1, scenario)
    assert values(result) == [2.0]


@ENGINES
def test_a_lost_connection_is_an_error_of_the_broker(engine: str) -> None:
    async def scenario(broker: FakeBroker) -> None:
        await broker.publish(TOPIC, reading(1))
        broker.drop_connection()

    with pytest.raises(BrokerUnavailable, match="lost"):
        listening(2, scenario, client=engine)


@ENGINES
def test_a_topic_alias_that_we_did_not_allow_is_an_error_of_the_broker(engine: str) -> None:
    async def scenario(broker: FakeBroker) -> None:
        (client_id,) = broker.sessions
        broker.inject(client_id, mqtt5.PublishPacket("", reading(1), topic_alias=1).write())
        await broker.wait_for(lambda one: one.packets(mqtt5.DisconnectPacket))
        assert int(broker.packets(mqtt5.DisconnectPacket)[0].reason_code) == 0x94

    with pytest.raises(BrokerUnavailable, match="empty topic"):
        listening(1, scenario, client=engine)


def failure(**knobs: object) -> SensorsyncError:
    """What `map --live` raises with such a broker."""

    async def scenario() -> None:
        async with FakeBroker(**knobs) as broker:  # type: ignore[arg-type]
            settings = Settings.model_validate(
                {"mqtt": {"host": "127.0.0.1", "port": broker.port, "connect_timeout": 4}}
            )
            await command.map_live(settings, command.LiveOptions(1))

    with pytest.raises(SensorsyncError) as error:
        asyncio.run(scenario())
    return error.value


def test_a_refused_subscription_says_what_helps() -> None:
    refused = failure(suback_codes={"sensors/live/#": mqtt5.SubAckReasonCode.NOT_AUTHORIZED})
    assert isinstance(refused, BrokerRefused)
    assert "refused the subscription 'sensors/live/#'" in str(refused)
    assert refused.hint


def test_a_broker_that_never_answers_the_subscription_is_given_up() -> None:
    unanswered = failure(withhold_suback=True)
    assert isinstance(unanswered, BrokerUnavailable)
    assert "did not answer SUBSCRIBE" in str(unanswered)


def test_ctrl_c_ends_it_while_a_broker_does_not_answer_the_connection() -> None:
    async def scenario() -> CommandResult:
        async with FakeBroker(answer_connect=False) as broker:
            settings = Settings.model_validate(
                {"mqtt": {"host": "127.0.0.1", "port": broker.port, "connect_timeout": 600}}
            )
            live = asyncio.create_task(command.map_live(settings, command.LiveOptions(1)))
            await broker.wait_for(lambda one: one.packets(mqtt5.ConnectPacket))
            os.kill(os.getpid(), signal.SIGINT)
            return await live

    result = asyncio.run(scenario())
    assert [problem.code for problem in result.problems] == ["interrupted"]


def test_a_topic_filter_that_is_none_is_a_matter_of_usage() -> None:
    with pytest.raises(UsageError, match="--topic a/#/b: # must be the last level"):
        asyncio.run(command.map_live(Settings(), command.LiveOptions(1, ("a/#/b",))))


# -- with a real broker and a subscriber -----------------------------------------------------------------------------------


def test_a_running_subscriber_loses_nothing_while_map_samples_the_same_topics(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    database = tmp_path / "readings.sqlite"
    commands = Commands(
        {
            "MQTT_BROKER": f"127.0.0.1:{mosquitto.port}",
            "SENSORSYNC_DATABASE__DRIVER": "sqlite",
            "SENSORSYNC_DATABASE__PATH": str(database),
            "SENSORSYNC_STATE_DIR": str(tmp_path / "state"),
            "SENSORSYNC_MQTT__INSTANCE": "test",
        }
    )
    commands.run("init-db")
    with commands.start(tmp_path / "subscribe.log", "subscribe") as subscriber:
        subscriber.logged("link(s)")
        with commands.start(tmp_path / "map.log", "map", "--live", "50", "--json") as listener:
            listener.logged("subscribed to")
            commands.run("stress-publish", "--messages", "4000", "--rate", "4000")
            seen = listener.finish()
        eventually(lambda: _rows(database) == 4000, "all rows are stored")
        assert subscriber.terminate() == 0
    assert seen.exit_code == 0, seen.err
    assert len(seen.data["messages"]) == seen.data["rows"] == 50
    assert {message["topic"] for message in seen.data["messages"]} == {"sensors/live/stress_test"}
    assert commands.run("dlq", "inspect", "--json").data["total"] == 0


def _rows(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        count: int = connection.execute("SELECT COUNT(*) FROM sensor_readings").fetchone()[0]
    return count


def test_ctrl_c_shows_what_has_come_so_far(mosquitto: Mosquitto, tmp_path: Path) -> None:
    commands = Commands(
        {"MQTT_BROKER": f"127.0.0.1:{mosquitto.port}", "SENSORSYNC_STATE_DIR": str(tmp_path), "LOG_LEVEL": "DEBUG"}
    )
    with commands.start(tmp_path / "map.log", "map", "--live", "9", "--topic", "m/#", "--timeout", "60s") as listener:
        listener.logged("subscribed to m/#")
        commands.run("stress-publish", "--messages", "1", "--topic", "m/1", "--run", "r1")
        listener.logged("1 of 9")
        listener.send(signal.SIGINT)
        ended = listener.finish(10)
    assert ended.exit_code == 5
    assert ended.out.startswith("m/1\n  {")
    assert "plain reading (no mappings are configured): 1 row" in ended.out
    assert "Interrupted before the end." in ended.err
    assert "Traceback" not in ended.err
