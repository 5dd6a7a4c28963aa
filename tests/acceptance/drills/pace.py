"""How fast a load comes, and when."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tests.fakes import TcpProxy
from tests.fakes.proxy import Link

CLIENTS = 16
ACK_DELAY = 0.05
_ACK_BYTES = 4


@dataclass(eq=False)
class Pace(TcpProxy):
    """The publisher's way to the broker. mosquitto's window is 20 and PUBACKs come late: 16 x 20 / 0.05 s = 6,400/s at most.

    Nothing passes before `begin`. All but the first `most` messages wait until `go_on`: however slow the machine is, a load is not
    over before its fault.
    """

    most: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._passed = 0
        self._begun, self._free = asyncio.Event(), asyncio.Event()

    async def upward(self, link: Link, data: bytes) -> bytes:
        await self._begun.wait()
        return data

    async def downward(self, link: Link, data: bytes) -> bytes:
        self._passed += len(data)
        if self._passed > self.most * _ACK_BYTES:
            await self._free.wait()
        return data

    @property
    def passed(self) -> int:
        """Messages that the broker has acknowledged to the publisher."""
        return self._passed // _ACK_BYTES

    def begin(self) -> None:
        """The subscriber is there."""
        self._begun.set()

    def go_on(self) -> None:
        """Hold nothing back any more."""
        self._free.set()
