"""A renamed instance and one that is only stopped look the same: neither may be robbed, and nobody's messages may be forgotten."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from sensorsync.config import Settings
from sensorsync.errors import AlreadyRunningError
from sensorsync.mqtt.subscriber.session_registry import SessionRecord, SessionRegistry, instance_lock
from tests.fakes.broker import FakeBroker
from tests.pipelines import everything, kept, running, send, standing_at_the_gate, subscribed
from tests.processes import registries


async def away(
    broker: FakeBroker, state: Path, *, instance: str = "old", client_id: str = "sensorsync", host: str = "127.0.0.1"
) -> Settings:
    """An instance that has run with two links, and for which twenty messages wait; its settings."""
    async with running(
        broker.port, state, connections=2, instance=instance, client_id=client_id, host=host
    ) as pipeline:
        with instance_lock(pipeline.settings):
            await subscribed(broker, pipeline, links=2)
            await pipeline.end()
    await broker.wait_for(lambda b: not b.connected())
    await send(broker, 20)
    return pipeline.settings


def of(broker: FakeBroker, instance: str) -> list[str]:
    return [client for client in broker.sessions if client.startswith(f"sensorsync-{instance}-")]


def warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if getattr(record, "event", None) == "sessions_without_owner"]


def test_what_waits_for_an_instance_that_is_gone_is_stored_and_its_sessions_end_when_we_are_told_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker:
            await away(broker, tmp_path)
            async with running(broker.port, tmp_path, instance="new", adopt=["old"], connections=1) as pipeline:
                await pipeline.until(lambda: not of(broker, "old") and pipeline.source.connected)
                assert of(broker, "new") == ["sensorsync-new-0-0"]
                assert set(pipeline.database.rows) == everything(20)
            assert registries(tmp_path) == [f"sensorsync-new-0_127.0.0.1-{broker.port}.json"]

    asyncio.run(scenario())
    assert warnings(caplog) == []


def test_an_instance_that_may_come_back_keeps_all_that_is_its_own_and_is_named_with_the_way_to_end_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker:
            await away(broker, tmp_path)
            async with running(broker.port, tmp_path, instance="new", connections=1) as pipeline:
                await subscribed(broker, pipeline, links=3)
                await pipeline.until(lambda: bool(warnings(caplog)))
                await pipeline.end()
            assert pipeline.database.rows == []
            assert kept(broker) == everything(20)

            async with running(broker.port, tmp_path, instance="old", connections=2) as again:
                await again.until(lambda: set(again.database.rows) == everything(20))

    asyncio.run(scenario())
    said = warnings(caplog)[0].getMessage()
    assert "sensorsync-old is not running here (last started or stopped 20" in said
    assert "in its 2 session(s)" in said
    assert said.endswith(": sensorsync subscribe --adopt old")


@pytest.mark.parametrize("adopt", [[], ["old"]])
def test_an_instance_that_runs_keeps_its_sessions_whatever_we_are_told(
    tmp_path: Path, adopt: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker:
            old = await away(broker, tmp_path)
            with instance_lock(old):
                async with running(broker.port, tmp_path, instance="new", adopt=adopt, connections=1) as pipeline:
                    await subscribed(broker, pipeline, links=3)
                    await pipeline.until(lambda: not adopt or "cannot end the sessions of old" in caplog.text)
                    await pipeline.end()
            assert kept(broker) == everything(20)
            assert len(of(broker, "old")) == 2

    asyncio.run(scenario())
    assert warnings(caplog) == []


def test_another_users_instance_of_which_we_may_not_know_whether_it_runs_does_not_stop_us(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker:
            await away(broker, tmp_path)
            (lock,) = (tmp_path / "sessions").glob("sensorsync-old_*.instance")
            lock.unlink()
            lock.mkdir()  # to the superuser, too, this is a file that cannot be opened
            async with running(broker.port, tmp_path, instance="new", connections=1) as pipeline:
                await pipeline.until(lambda: "cannot determine whether sensorsync-old is running" in caplog.text)
                await broker.publish("t/x", b"for us")
                await pipeline.end()
            assert len(of(broker, "old")) == 2

    asyncio.run(scenario())


def test_an_instance_that_comes_back_while_its_sessions_are_taken_over_is_refused_and_comes_back_afterwards(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker:
            old = await away(broker, tmp_path)
            async with running(broker.port, tmp_path, instance="new", adopt=["old"], connections=1) as pipeline:
                pipeline.database.gate.clear()
                await standing_at_the_gate(pipeline.database)
                with pytest.raises(AlreadyRunningError), instance_lock(old):
                    pass
                pipeline.database.gate.set()
                await pipeline.until(lambda: not of(broker, "old") and pipeline.source.connected)
                with instance_lock(old):
                    pass

    asyncio.run(scenario())


def test_sessions_of_another_client_id_are_taken_over_under_the_first_parts_of_its_client_ids(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker:
            await away(broker, tmp_path, client_id="former", instance="test")
            async with running(broker.port, tmp_path, connections=1) as pipeline:
                await pipeline.until(lambda: "--adopt former-test" in caplog.text)
                await pipeline.end()
            async with running(broker.port, tmp_path, adopt=["former-test"], connections=1) as pipeline:
                await pipeline.until(lambda: list(broker.sessions) == ["sensorsync-test-0-0"])
                await pipeline.until(lambda: set(pipeline.database.rows) == everything(20))

    asyncio.run(scenario())


def test_sessions_at_another_broker_are_named_and_must_be_ended_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with FakeBroker() as broker, FakeBroker() as former:
            await away(former, tmp_path)
            async with running(broker.port, tmp_path, instance="new", adopt=["old"], connections=1) as pipeline:
                await pipeline.until(lambda: bool(warnings(caplog)))
                await pipeline.until(lambda: "no sessions of old are recorded" in caplog.text)
                await pipeline.end()
            assert kept(former) == everything(20)
            assert (
                warnings(caplog)[0]
                .getMessage()
                .endswith(
                    f": MQTT_BROKER=127.0.0.1:{former.port} SENSORSYNC_MQTT__INSTANCE=old"
                    " sensorsync subscribe --leave --until-idle 5s"
                )
            )

    asyncio.run(scenario())


def test_a_start_with_another_spelling_of_the_broker_takes_its_own_sessions_and_names_no_orphan(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # It named itself as "not running here", with a command that took over its own client ids.
    async def scenario() -> None:
        async with FakeBroker() as broker:
            old = await away(broker, tmp_path, host="localhost")
            numeric = old.model_copy(update={"mqtt": old.mqtt.model_copy(update={"host": "127.0.0.1"})})
            with instance_lock(numeric):
                async with (
                    running(broker.port, tmp_path, instance="old", connections=1) as again,
                    running(broker.port, tmp_path, instance="new", connections=1) as other,
                ):
                    await subscribed(broker, other, links=1)
                    await again.until(lambda: set(again.database.rows + other.database.rows) == everything(20))
                    await again.until(lambda: of(broker, "old") == ["sensorsync-old-0-0"])
            assert registries(tmp_path) == [
                f"sensorsync-{name}-0_127.0.0.1-{broker.port}.json" for name in ("new", "old")
            ]

    asyncio.run(scenario())
    assert [one for one in warnings(caplog) if "sensorsync-old is not" in one.getMessage()] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "gone.invalid"])
def test_sessions_that_may_be_those_of_the_running_client_ids_are_not_named_as_orphans(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    # Another port of the host may be the same broker, with or without TLS.
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with FakeBroker() as broker:
            former = Settings.model_validate(
                {"mqtt": {"host": host, "port": 1, "instance": "me"}, "state_dir": str(tmp_path)}
            )
            with SessionRegistry.for_process(former, 0) as registry:
                registry.save({"sensorsync-me-0-0": SessionRecord(("t/#",))})
            async with running(broker.port, tmp_path, instance="me", connections=1) as pipeline:
                with instance_lock(pipeline.settings):
                    await pipeline.until(lambda: "of our client ids are recorded" in caplog.text)

    asyncio.run(scenario())
    assert warnings(caplog) == []


def test_a_damaged_registry_of_another_instance_does_not_stop_us(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker:
            old = await away(broker, tmp_path)
            with SessionRegistry.for_process(old, 1) as registry:
                registry.save({"x": SessionRecord(("t/#",))})
            (tmp_path / "sessions" / f"sensorsync-old-1_127.0.0.1-{broker.port}.json").write_text("damaged")
            async with running(broker.port, tmp_path, instance="new", adopt=["old"], connections=1) as pipeline:
                await pipeline.until(lambda: not of(broker, "old") and pipeline.source.connected)
                await pipeline.end()
            assert pipeline.source._session_cleaner.sessions_not_ended == 1

    asyncio.run(scenario())
