"""What the conductor does to the broker, to the path to the database, to the table and to the dead-letter box."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pymysql

from tests.acceptance.nemesis.broker import Broker
from tests.acceptance.nemesis.evidence import Connect
from tests.acceptance.nemesis.plan import Action, Deed
from tests.acceptance.nemesis.proxy import DatabaseProxy

ALTERATIONS = (
    "ADD COLUMN revision INT NOT NULL DEFAULT 7",
    "ADD INDEX nemesis_by_ts (ts)",
    "ADD COLUMN note VARCHAR(20) NULL",
    "DROP INDEX nemesis_by_ts",
    "COMMENT = 'readings'",
    "ADD INDEX nemesis_by_arrival (received_at)",
)
"""Changes of the table that change no meaning."""


class Deeds:
    """One method for each deed that is not about a subscriber's process. Each of them ends what it began."""

    def __init__(self, broker: Broker, proxy: DatabaseProxy, box: Path, connect: Connect) -> None:
        self._broker = broker
        self._proxy = proxy
        self._box = box
        self._connect = connect
        self._alterations = list(ALTERATIONS)
        self._does: dict[Deed, Callable[[float], Awaitable[None]]] = {
            Deed.LOCK_BOX: self._lock_box,
            Deed.PATH_DOWN: self._path_down,
            Deed.PATH_FROZEN: self._path_frozen,
            Deed.PATH_CUT: self._path_cut,
            Deed.LOCK_TABLE: self._lock_table,
            Deed.ALTER: self._alter,
            Deed.BROKER_DOWN: self._broker_down,
            Deed.DROP: self._drop,
            Deed.LOSE_SESSION: self._lose_session,
            Deed.BLACK_HOLE: self._black_hole,
            Deed.HOLD: self._hold,
        }

    async def do(self, action: Action) -> None:
        """Do it, and return when it is over."""
        await self._does[action.deed](action.seconds)

    def sql(self, statement: str, seconds: float = 0.0) -> None:
        """Run a statement as an administrator, and stay connected for `seconds`."""
        connection = self._connect()
        try:
            with connection.cursor() as cursor:
                # While we wait for the table nobody else gets it: the judge waits, too.
                cursor.execute("SET SESSION lock_wait_timeout = 1")
                cursor.execute(statement)
            time.sleep(seconds)
        finally:
            connection.close()

    async def _lock_box(self, seconds: float) -> None:
        if not self._box.exists():
            return
        connection = sqlite3.connect(self._box, isolation_level=None, timeout=0)
        try:
            with suppress(sqlite3.OperationalError):  # somebody writes at this moment
                connection.execute("BEGIN IMMEDIATE")
                await asyncio.sleep(seconds)
                connection.execute("ROLLBACK")
        finally:
            connection.close()

    async def _path_down(self, seconds: float) -> None:
        await self._proxy.stop()
        await asyncio.sleep(seconds)
        await self._proxy.start()

    async def _path_frozen(self, seconds: float) -> None:
        self._proxy.freeze()
        await asyncio.sleep(seconds)
        self._proxy.thaw()

    async def _path_cut(self, _: float) -> None:
        self._proxy.cut()

    async def _lock_table(self, seconds: float) -> None:
        with suppress(pymysql.OperationalError):  # it was in use for a second
            await asyncio.to_thread(self.sql, "LOCK TABLES sensor_readings READ", seconds)

    async def _alter(self, _: float) -> None:
        if self._alterations:
            alteration = self._alterations.pop(0)
            with suppress(pymysql.OperationalError):  # the table is in use, or an earlier change was not made
                await asyncio.to_thread(self.sql, f"ALTER TABLE sensor_readings {alteration}")

    async def _broker_down(self, seconds: float) -> None:
        await self._broker.stop()
        await asyncio.sleep(seconds)
        await self._broker.start()

    async def _drop(self, _: float) -> None:
        self._broker.drop_one(lose_session=False)

    async def _lose_session(self, _: float) -> None:
        self._broker.drop_one(lose_session=True)

    async def _black_hole(self, _: float) -> None:
        self._broker.swallow_one()

    async def _hold(self, seconds: float) -> None:
        self._broker.hold(paused=True)
        await asyncio.sleep(seconds)
        self._broker.hold(paused=False)
