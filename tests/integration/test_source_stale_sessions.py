"""Sessions that the configuration has no more: what they hold is fetched before they end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import mqtt5

from tests.fakes.broker import FakeBroker
from tests.fakes.connection import ServerConnection
from tests.pipelines import CLIENT, everything, running, send, subscribed


async def left_by_two_links(broker: FakeBroker, state: Path) -> None:
    """Two sessions with ten messages each."""
    async with running(broker.port, state, connections=2) as pipeline:
        await subscribed(broker, pipeline, links=2)
        await pipeline.end()
    await broker.wait_for(lambda b: not b.connected())
    await send(broker, 20)


class LateConnection(ServerConnection):
    """Sends what a resumed session holds only a moment after CONNACK."""

    ripe = False

    def pump(self) -> None:
        if self.ripe:
            super().pump()
        else:
            asyncio.get_running_loop().call_later(0.05, self.ripen)

    def ripen(self) -> None:
        self.ripe = True
        self.pump()


class LateBroker(FakeBroker):
    """It also gives nothing of an ended session to other members of the group."""

    def _accept(self) -> ServerConnection:
        self._count += 1
        return LateConnection(self, self._count)

    def end_session(self, client_id: str) -> None:
        del self.sessions[client_id]


def test_a_session_whose_messages_come_a_moment_after_connack_is_not_taken_for_empty(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with LateBroker() as broker:
            await left_by_two_links(broker, tmp_path)
            async with running(broker.port, tmp_path, connections=1) as pipeline:
                await pipeline.until(lambda: list(broker.sessions) == [CLIENT])
                await pipeline.until(lambda: pipeline.source.connected)
                await pipeline.end()
                assert set(pipeline.database.rows) == everything(20)

    asyncio.run(scenario())


def test_ending_a_stale_session_is_retried_after_transient_errors(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeBroker() as broker:
            await left_by_two_links(broker, tmp_path)
            codes = mqtt5.ConnAckReasonCode
            broker.connack_codes.extend([codes.SUCCESS, codes.SERVER_BUSY, codes.SERVER_UNAVAILABLE])
            async with running(broker.port, tmp_path, connections=1) as pipeline:
                await pipeline.until(lambda: set(pipeline.database.rows) == everything(20))
                await pipeline.until(lambda: list(broker.sessions) == [CLIENT])
                await pipeline.until(lambda: pipeline.source.connected)

    asyncio.run(scenario())
