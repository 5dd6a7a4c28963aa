"""The path to the database: a proxy that injects errors by phase, breaks connections, freezes, and goes away.

One statement at a time: the protocol asks and answers in turn. An answer is passed on packet by packet.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Self

from tests.acceptance.nemesis.injections import CLOSES, DatabaseFaults, Injection, Kind, Phase
from tests.acceptance.nemesis.mysql_bytes import (
    COM_QUIT,
    ERROR,
    OK,
    Payload,
    Statements,
    error_packet,
    is_end,
    is_result_set,
    packet,
    read_packet,
    without_tls,
)

QUIET = DatabaseFaults({}, {})
_HANG_SECONDS = 30.0
_LONGEST = 1 << 24


class _Ended(Exception):
    """This connection is over, by our own doing."""


class DatabaseProxy:
    """Listens on 127.0.0.1:`port` for a server on 127.0.0.1:`target`."""

    def __init__(self, port: int, target: int, rng: random.Random, faults: DatabaseFaults = QUIET) -> None:
        self.port = port
        self.faults = faults
        self.counts: Counter[str] = Counter()
        """What was injected: `COMMIT error_after 1213` -> how often."""
        self.statements: Counter[str] = Counter()
        """By phase."""
        self._target = target
        self._rng = rng
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, if it does not; after `stop` on the same port again."""
        if self._server is not None:
            return
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=_LONGEST)

    async def stop(self) -> None:
        """Refuse new connections and reset those that are there."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        if self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def calm(self) -> None:
        """No faults from now on."""
        self.faults = QUIET
        self.thaw()

    def freeze(self) -> None:
        """Pass nothing on until `thaw`; connections stay open."""
        self._open.clear()

    def thaw(self) -> None:
        """Pass everything on again."""
        self._open.set()

    def cut(self) -> None:
        """Reset all connections."""
        for link in list(self._links):
            link.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.serve()
        except (OSError, EOFError, _Ended):
            pass
        except asyncio.CancelledError:
            if self._server is not None:
                raise
        finally:
            self._tasks.discard(task)
            self._links.discard(link)
            link.reset()

    def choose(self, phase: Phase) -> Injection | None:
        """Decide what happens to a statement, and count it."""
        self.statements[phase] += 1
        injection = self.faults.choose(phase, self._rng)
        if injection is not None:
            number = f" {injection.errno}" if injection.errno else ""
            self.counts[f"{phase} {injection.kind}{number}"] += 1
        return injection

    def part_of(self, size: int) -> int:
        """Return at which byte something breaks."""
        return self._rng.randrange(1, size)

    async def opened(self) -> None:
        """Return once nothing is frozen."""
        await self._open.wait()

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the server."""
        return await asyncio.open_connection("127.0.0.1", self._target, limit=_LONGEST)


class _Link:
    """One client's connection through the proxy."""

    def __init__(self, proxy: DatabaseProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._from_client = reader
        self._to_client = writer
        self._from_server: asyncio.StreamReader
        self._to_server: asyncio.StreamWriter | None = None

    def reset(self) -> None:
        """Reset both sides."""
        for side in (self._to_client, self._to_server):
            if side is not None:
                side.transport.abort()

    async def serve(self) -> None:
        """Pass the handshake on, then statement by statement."""
        await self._proxy.opened()
        injection = self._proxy.choose(Phase.CONNECT)
        if injection is not None:
            await self._before(injection, sequence=0, handshake=True)
        self._from_server, self._to_server = await self._proxy.dial()
        await self._handshake()
        statements = Statements()
        while True:
            command = await self._command()
            await self._proxy.opened()
            await self._run(command, statements.phase(command[0][1]))

    async def _handshake(self) -> None:
        sequence, greeting = await read_packet(self._from_server)
        if greeting[0] == ERROR:
            self._down([(sequence, greeting)])
            raise _Ended
        self._down([(sequence, without_tls(greeting))])
        upward = asyncio.create_task(self._pass_up())
        try:
            while True:
                sequence, payload = await read_packet(self._from_server)
                if payload[0] in {OK, ERROR}:
                    break
                self._down([(sequence, payload)])
        finally:
            upward.cancel()
            await asyncio.wait([upward])
        self._down([(sequence, payload)])
        if payload[0] == ERROR:
            raise _Ended

    async def _pass_up(self) -> None:
        while True:
            self._up([await read_packet(self._from_client)])

    async def _command(self) -> list[Payload]:
        """Read one command; one of 16 MiB and more has several packets."""
        parts = [await read_packet(self._from_client)]
        while len(parts[-1][1]) == _LONGEST - 1:
            parts.append(await read_packet(self._from_client))
        return parts

    async def _run(self, command: list[Payload], phase: Phase) -> None:
        if command[0][1][0] == COM_QUIT:
            self._up(command)
            raise _Ended
        injection = self._proxy.choose(phase)
        sequence = command[-1][0] + 1
        if injection is not None and await self._before(injection, sequence):
            return
        if injection is not None and injection.kind is Kind.CUT_INSIDE:
            await self._half(command)
        self._up(command)
        first = await read_packet(self._from_server)
        await self._proxy.opened()
        if injection is not None and injection.kind is Kind.CUT_AFTER:
            raise _Ended
        if injection is not None and injection.kind is Kind.ERROR_AFTER and not is_result_set(first[1]):
            self._answer_error(injection.errno, sequence)
            return
        self._down([first])
        if is_result_set(first[1]):
            await self._pass_rows()

    async def _pass_rows(self) -> None:
        ends = 0
        while ends < 2:
            sequence, payload = await read_packet(self._from_server)
            self._down([(sequence, payload)])
            ends = 2 if payload[0] == ERROR else ends + is_end(payload)

    async def _half(self, command: list[Payload]) -> None:
        wire = packet(*command[0])
        assert self._to_server is not None
        self._to_server.write(wire[: self._proxy.part_of(len(wire))])
        await self._to_server.drain()
        raise _Ended

    async def _before(self, injection: Injection, sequence: int, *, handshake: bool = False) -> bool:
        """Do what comes before the server gets the statement; True when it shall not get it."""
        if injection.kind is Kind.DELAY:
            await asyncio.sleep(injection.seconds)
        elif injection.kind is Kind.CUT_BEFORE:
            raise _Ended
        elif injection.kind is Kind.HANG:
            await asyncio.wait_for(self._from_client.read(), _HANG_SECONDS)
            raise _Ended
        elif injection.kind is Kind.ERROR_BEFORE:
            self._answer_error(injection.errno, sequence, handshake=handshake)
            return True
        return False

    def _answer_error(self, errno: int, sequence: int, *, handshake: bool = False) -> None:
        self._to_client.write(error_packet(sequence, errno, "injected by the nemesis", handshake=handshake))
        if handshake or errno in CLOSES:
            self._to_client.close()  # sends what is written
            raise _Ended

    def _down(self, packets: list[Payload]) -> None:
        self._to_client.write(b"".join(packet(*one) for one in packets))

    def _up(self, packets: list[Payload]) -> None:
        assert self._to_server is not None
        self._to_server.write(b"".join(packet(*one) for one in packets))
