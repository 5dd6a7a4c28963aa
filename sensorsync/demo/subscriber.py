"""The progress of a subscriber that runs as a child, read from its log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from sensorsync.demo.sandbox import JsonObject

STALL_SECONDS = 30.0
"""Seconds without any progress after which no more messages are expected to be stored."""


class SubscriberLog:
    """The counts in the JSON log of `subscribe`, in messages. `on_status` is called after each of its status lines."""

    def __init__(self, on_status: Callable[[SubscriberLog], None]) -> None:
        self.connected = asyncio.Event()
        """Set once the subscriber is subscribed."""
        self.received = self.rows_stored = self.redelivered_rows = self.parked = self.queue_depth = 0
        self.rate = 0.0
        """Messages stored per second, as of the last status line."""
        self._progressed_at = 0.0
        self._record_received = asyncio.Event()
        self._on_status = on_status

    @property
    def new_rows(self) -> int:
        """Rows that were not there before."""
        return self.rows_stored - self.redelivered_rows

    def handle_record(self, record: JsonObject) -> None:
        """Read one record of the log."""
        self._record_received.set()
        match record.get("event"):
            case "connected":
                self.connected.set()
            case "status":
                if (record["received"], record["queue_depth"]) != (self.received, self.queue_depth):
                    self._progressed_at = asyncio.get_running_loop().time()
                self.received, self.queue_depth, self.rate = record["received"], record["queue_depth"], record["rate"]
                self.rows_stored, self.redelivered_rows, self.parked = (
                    record["landed"],
                    record["duplicates"],
                    record["parked"],
                )
                self._on_status(self)
            case "stopped":
                self.rows_stored, self.redelivered_rows, self.parked = (
                    record["stored"],
                    record["redelivered"],
                    record["parked"],
                )

    async def wait_until_settled(self, count: int, stall_seconds: float = STALL_SECONDS) -> None:
        """Return once `count` different messages are stored or parked, or none moved for `stall_seconds` seconds."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        while self.new_rows + self.parked < count and loop.time() - max(since, self._progressed_at) < stall_seconds:
            self._record_received.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(1.0, stall_seconds)):
                    await self._record_received.wait()
