"""Everything at once, at random: drops, resends, outages, slow commits, back-pressure. Nothing is lost, nothing acknowledged early."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mqtt5
import pytest

from sensorsync.pipeline.contract import Reading, SinkUnavailable
from sensorsync.pipeline.ingest import IngestLimits
from tests.fakes.broker import FakeBroker
from tests.fakes.connection import ServerConnection
from tests.pipelines import Database, everything, kept, running, subscribed
from tests.services import Certificates

MESSAGES = 400


class TroubledDatabase(Database):
    """Slow, and away every fifth time."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._dice = random.Random(seed)
        self.before_commit = self._trouble

    def _trouble(self, _: Sequence[Reading]) -> None:
        dice = self._dice
        time.sleep(dice.random() * 0.01)
        if dice.random() < 0.2:
            raise SinkUnavailable(
                "trouble", retry_immediately=dice.random() < 0.3, commit_outcome_unknown=dice.random() < 0.5
            )


@dataclass(eq=False)
class Witness(FakeBroker):
    """Notes each message that is acknowledged while it is not stored."""

    database: Database = field(default_factory=Database)
    early: list[bytes] = field(default_factory=list)

    def packet_received(self, connection: ServerConnection, packet: mqtt5.Packet) -> None:
        if isinstance(packet, mqtt5.PubAckPacket) and connection.session:
            message = connection.session.inflight.get(packet.packet_id)
            if message is not None and message.payload not in self.database.rows:
                self.early.append(message.payload)
        super().packet_received(connection, packet)


async def blow(broker: FakeBroker, dice: random.Random, payload: bytes) -> None:
    """Publish everything, and meanwhile cut connections and send messages again."""
    for number in range(MESSAGES):
        await broker.publish("t/x", payload % number)
        if dice.random() < 0.02:
            broker.drop_connection(dice.choice(list(broker.sessions)))
        if dice.random() < 0.02:
            for client_id, session in broker.sessions.items():
                if session.connection and session.inflight and not session.resend:
                    broker.resend(client_id, dice.choice(list(session.inflight)))
        if dice.random() < 0.1:
            await asyncio.sleep(0.01)  # so that the storm lasts, and meets every stage of a message's way


async def storm(seed: int, state: Path, *, payload: bytes, server: ssl.SSLContext | None = None, **client: Any) -> None:
    dice = random.Random(seed)
    database = TroubledDatabase(seed)
    limits = IngestLimits(stop_timeout=10.0, queue_bytes=dice.choice([3000, 10**7]))
    broker = Witness(queue_limit=None, window=dice.choice([4, 20, 200]), ssl=server, database=database)
    workers, batch_size, connections = dice.choice([1, 3]), dice.choice([5, 50]), dice.choice([1, 3])
    async with (
        broker,
        running(
            broker.port,
            state,
            workers=workers,
            batch_size=batch_size,
            connections=connections,
            database=database,
            limits=limits,
            **client,
        ) as pipeline,
    ):
        await subscribed(broker, pipeline, connections)
        await blow(broker, dice, payload)
        await pipeline.until(lambda: set(database.rows) == everything(MESSAGES, payload), timeout=90)
        await broker.wait_for(lambda b: not kept(b), timeout=90)
        await pipeline.until(lambda: pipeline.source.connected)
        assert broker.early == []
        await pipeline.end()


@pytest.mark.parametrize("seed", range(6))
def test_a_storm_loses_nothing_and_acknowledges_only_what_is_stored(tmp_path: Path, seed: int) -> None:
    asyncio.run(storm(seed, tmp_path, payload=b"%d" + b"-" * 20))


@pytest.mark.parametrize("seed", range(2))
def test_a_storm_over_tls_neither(tmp_path: Path, certificates: Certificates, seed: int) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates.server, certificates.server_key)
    tls = {"enabled": True, "ca_file": str(certificates.authority)}
    asyncio.run(storm(seed, tmp_path, payload=b"%d" + b"-" * 800, server=server, tls=tls))
