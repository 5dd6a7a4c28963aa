"""What a subscriber that runs as a child has logged: how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from sensorsync.demo.sandbox import Record

STALL_SECONDS = 30.0
"""Without any progress for so long, what is not stored by then does not come any more."""


class SubscriberLog:
    """Hears the JSON log of `subscribe`; `changed` is called after each of its status lines. Counts of messages."""

    def __init__(self, changed: Callable[[SubscriberLog], None]) -> None:
        self.connected = asyncio.Event()
        """Set once it is subscribed."""
        self.received = self.landed = self.duplicates = self.parked = self.waiting = 0
        self.rate = 0.0
        """Stored per second, lately."""
        self._moved_at = 0.0
        self._heard = asyncio.Event()
        self._changed = changed

    @property
    def new_rows(self) -> int:
        """Rows that were not there before."""
        return self.landed - self.duplicates

    def hear(self, record: Record) -> None:
        """Take one line of its log."""
        self._heard.set()
        match record.get("event"):
            case "connected":
                self.connected.set()
            case "status":
                if (record["received"], record["queue_depth"]) != (self.received, self.waiting):
                    self._moved_at = asyncio.get_running_loop().time()
                self.received, self.waiting, self.rate = record["received"], record["queue_depth"], record["rate"]
                self.landed, self.duplicates, self.parked = record["landed"], record["duplicates"], record["parked"]
                self._changed(self)
            case "stopped":
                self.landed, self.duplicates, self.parked = record["stored"], record["redelivered"], record["parked"]

    async def settled(self, count: int, stall: float = STALL_SECONDS) -> None:
        """Return once `count` different messages are stored or parked, or nothing has moved for `stall` seconds."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        while self.new_rows + self.parked < count and loop.time() - max(since, self._moved_at) < stall:
            self._heard.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(1.0, stall)):
                    await self._heard.wait()
