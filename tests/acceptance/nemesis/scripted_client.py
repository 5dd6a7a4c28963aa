"""A subscriber of a few lines that does everything right, or exactly one thing wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum

from tests.acceptance.nemesis.evidence import Letter
from tests.acceptance.nemesis.messages import Fate, Key, Message
from tests.acceptance.nemesis.mqtt_bytes import MQTT_5, Kind, read_publish, take_packets

PATTERN = "$share/g/sensors/live/#"
WINDOW = 20
"""Of the broker."""


class Wrong(StrEnum):
    """What a client does wrong, and the kind of violation that has to come of it."""

    NOTHING = "nothing"
    ACKS_EARLY = "acked_without_row"
    PARKS_GOOD_ONES = "good_parked"
    FORGETS_LETTERS = "acked_without_letter"
    ACKS_BACKWARDS = "order"
    ACKS_TWICE = "repeated"
    ACKS_AFTER_RECONNECT = "stale"
    ACKS_ANYTHING = "unknown_id"
    REFUSES = "refused"
    TALKS_NONSENSE = "malformed"


class Store:
    """A witness in memory: a table and a box."""

    def __init__(self) -> None:
        self.rows: set[Key] = set()
        self.letters: set[Letter] = set()

    def stored(self, messages: Iterable[Message]) -> set[Key]:
        return {message.key for message in messages if message.key in self.rows and message.key is not None}

    def parked(self) -> set[Letter]:
        return self.letters


class ScriptedClient:
    """Subscribes, stores, acknowledges. `messages` tells what each payload is."""

    def __init__(self, port: int, level: int, store: Store, messages: Iterable[Message], wrong: Wrong) -> None:
        self._port = port
        self._level = level
        self._store = store
        self._messages = {(message.topic, message.payload): message for message in messages}
        self._wrong = wrong
        self._left: list[int] = []
        """Ids that were acknowledged on the connection before."""

    async def run(self) -> None:
        """Connect again and again, for ever."""
        while True:
            with suppress(OSError, EOFError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    await self._live(reader, writer)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.01)

    async def _live(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        five = self._level == MQTT_5
        writer.write(self._connect())
        buffer = bytearray()
        open_ids: dict[int, tuple[str, bytes]] = {}
        settled: dict[int, tuple[str, bytes]] = {}
        subscribed = False
        try:
            while data := await reader.read(1 << 16):
                buffer += data
                packets = take_packets(buffer)
                if any(packet.kind == Kind.CONNACK for packet in packets) and not subscribed:
                    subscribed = True
                    name = PATTERN.encode()
                    body = b"\0\1" + (b"\0" if five else b"") + len(name).to_bytes(2, "big") + name + b"\1"
                    writer.write(bytes([0x82, len(body)]) + body)
                    writer.write(self._late_acks())
                new = [packet for packet in packets if packet.kind == Kind.PUBLISH]
                for packet in new:
                    sent = read_publish(packet, self._level)
                    crossed = bool(packet.flags & 8) and settled.get(sent.packet_id) == (sent.topic, sent.payload)
                    if not crossed:
                        open_ids[sent.packet_id] = (sent.topic, sent.payload)
                await asyncio.sleep(0.002)  # the work
                writer.write(self._settle(open_ids))
                settled |= open_ids
                open_ids.clear()
        finally:
            # The first ones: the broker has taken their acknowledgements long ago, and does not deliver them again.
            self._left = list(settled)[:3] if len(settled) > 2 * WINDOW else []

    def _connect(self) -> bytes:
        properties = bytes([5, 0x11]) + (3600).to_bytes(4, "big") if self._level == MQTT_5 else b""
        body = b"\0\4MQTT" + bytes([self._level, 0, 0, 60]) + properties + b"\0\6client"
        return bytes([0x10, len(body)]) + body

    def _settle(self, open_ids: dict[int, tuple[str, bytes]]) -> bytes:
        """Store or park what is open, and return the PUBACKs."""
        wrong = self._wrong
        for letter in open_ids.values():
            message = self._messages[letter]
            if message.key is not None and wrong is Wrong.PARKS_GOOD_ONES:
                self._store.letters.add(letter)
            elif message.key is not None and wrong is not Wrong.ACKS_EARLY:
                self._store.rows.add(message.key)
            elif message.fate is Fate.PARKED and wrong is not Wrong.FORGETS_LETTERS:
                self._store.letters.add(letter)
        ids = list(open_ids)
        if wrong is Wrong.ACKS_BACKWARDS:
            ids.reverse()
        elif wrong is Wrong.ACKS_TWICE:
            ids += ids[:1]
        elif wrong is Wrong.ACKS_ANYTHING:
            ids.append(40_000)
        acks = b"".join(self._puback(number) for number in ids)
        if wrong is Wrong.TALKS_NONSENSE and ids:
            acks += b"\xf0\x00"
        return acks

    def _late_acks(self) -> bytes:
        return b"".join(map(self._puback, self._left)) if self._wrong is Wrong.ACKS_AFTER_RECONNECT else b""

    def _puback(self, packet_id: int) -> bytes:
        if self._wrong is Wrong.REFUSES:
            return b"\x40\x03" + packet_id.to_bytes(2, "big") + b"\x80"
        return b"\x40\x02" + packet_id.to_bytes(2, "big")
