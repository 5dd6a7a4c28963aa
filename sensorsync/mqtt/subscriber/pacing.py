"""Pacing of new connections: existing sessions a few at a time, new sessions in groups.

After a `kill -9` the broker still has our sessions and goes on sending messages to them. Each CONNECT then makes it move one
session to a new connection. EMQX lost messages that it sent to a session at that moment: up to 24 of 120,000 with 128 sessions
opened at once, none with 16 opened 20 ms apart.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

TAKEOVERS = 4
"""Existing sessions that may be taken over within TAKEOVER_GAP seconds. 64 sessions take 0.3 s."""
TAKEOVER_GAP = 0.020
NEW_AT_ONCE = 16
"""New sessions that are opened at the same time, each from CONNECT to SUBACK."""


class Pace:
    """A limit of `most` starts within any `gap` seconds.

    It has no clock: the caller passes the time in seconds, never decreasing.
    """

    def __init__(self, most: int, gap: float) -> None:
        self._gap = gap
        self._starts: deque[float] = deque(maxlen=most)

    def due_in(self, now: float) -> float:
        """Return the seconds until the next start is allowed, or 0 when it is allowed now."""
        if len(self._starts) < (self._starts.maxlen or 0):
            return 0.0
        return max(0.0, self._starts[0] + self._gap - now)

    def start(self, now: float) -> None:
        """Count a start."""
        self._starts.append(now)


class ConnectGate:
    """The gate that every link of one source passes when it connects, the first time and after each loss."""

    def __init__(self) -> None:
        self._pace = Pace(TAKEOVERS, TAKEOVER_GAP)
        self._queue = asyncio.Lock()
        self._new = asyncio.Semaphore(NEW_AT_ONCE)

    @asynccontextmanager
    async def passing(self, *, has_session: bool) -> AsyncIterator[None]:
        """Wait until one more connection may be opened, and open it inside the block.

        `has_session`: the broker should hold a session for it.
        """
        if not has_session:
            async with self._new:
                yield
            return
        loop = asyncio.get_running_loop()
        # The lock forms a queue: a late wake-up delays all later ones, and they never start together.
        async with self._queue:
            await asyncio.sleep(self._pace.due_in(loop.time()))
            self._pace.start(loop.time())
        yield
