"""The messages of one run: what is published, and what must become of each."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

UNSTORABLE = -66_666.25
"""A value that a CHECK of the table refuses; no good message has it."""
MAX_UNSTORABLE = 60
"""In one run. A hundred refusals with no store between count as a broken table, which is no fault of the messages."""
_BIG = (5_000, 60_000, 200_000)
_FLOOD = 12
_FIRST_TS = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_DEVICES = ("plain", "o'brien", "back\\slash", 'quo"te', "mötör-🚲", "semi;--", "per%cent", "line-99")
_METRICS = ("temperature", "door", "note", "läuft")
_TEXTS = ("open", "it's \\'open\\'", "'); DROP TABLE sensor_readings; --", "日本語 🚀", "", "\\", "%s {0}", "a\tb\nc")


class Fate(StrEnum):
    """Where a message has to be once it is acknowledged."""

    STORED = "stored"
    PARKED = "parked"
    ANYWHERE = "anywhere"
    """It is not ours: a probe that a client published itself."""


class Key(NamedTuple):
    """The primary key of a row."""

    device_id: str
    metric: str
    ts: datetime
    event_id: bytes


class Values(NamedTuple):
    """What a row holds beside its key, `payload` as parsed JSON."""

    value: float | None
    value_text: str | None
    unit: str | None
    topic: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message. Compared by identity; the same message may be published several times."""

    number: int
    fate: Fate
    topic: str
    payload: bytes
    key: Key | None = None
    values: Values | None = None

    @property
    def label(self) -> str:
        return f"#{self.number} {self.fate} on {self.topic} ({len(self.payload)} bytes)"


class Stream:
    """An endless stream of messages, the same for the same `rng`. `poison` and `copies` are shares from 0 to 1."""

    def __init__(self, rng: random.Random, *, poison: float, copies: float, big: float) -> None:
        self._rng = rng
        self._poison, self._copies, self._big = poison, copies, big
        self._unstorable = 0
        self.made: list[Message] = []
        """Each message once, in order."""

    def __iter__(self) -> Iterator[Message]:
        while True:
            yield self.next()

    def next(self) -> Message:
        """Return a message: mostly a new one, sometimes one that was published before."""
        rng = self._rng
        if self.made and rng.random() < self._copies:
            return rng.choice(self.made[-200:])
        message = self._poisoned() if rng.random() < self._poison else self._good()
        self.made.append(message)
        return message

    def flood(self) -> list[Message]:
        """Return new poison that fills a dead-letter box of 1 MiB more than once."""
        flood = []
        for _ in range(_FLOOD):
            number = len(self.made)
            flood.append(Message(number, Fate.PARKED, "sensors/live/flood", b"not JSON %d " % number + b"y" * _BIG[-1]))
            self.made.append(flood[-1])
        return flood

    def _good(self, value: object = None) -> Message:
        rng, number = self._rng, len(self.made)
        metric = rng.choice(_METRICS)
        if value is None:
            value = {"temperature": rng.randrange(-8000, 8000) / 8, "door": rng.random() < 0.5}.get(metric)
        if metric in {"note", "läuft"} and value is None:
            value = rng.choice((None, *_TEXTS))
        ts = _FIRST_TS + timedelta(microseconds=number * 1001 + rng.randrange(1000))
        event_id = uuid.UUID(int=rng.getrandbits(128), version=4)
        reading: dict[str, Any] = {
            "event_id": str(event_id),
            "device_id": rng.choice(_DEVICES),
            "metric": metric,
            "ts": ts.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "value": value,
            "number": number,
        }
        unit = rng.choice((None, "°C", "it's"))
        if unit is not None:
            reading["unit"] = unit
        if rng.random() < self._big:
            reading["padding"] = rng.choice("xé'\\") * rng.choice(_BIG)
            # Escapes make it longer than the 256 KiB that the decoder takes.
            if len(json.dumps(reading, ensure_ascii=False).encode()) > 250_000:
                reading["padding"] = reading["padding"][:60_000]
        topic = f"sensors/live/n{number % 7}"
        is_text = isinstance(value, str)
        numeric = None if value is None or is_text else float(value)  # type: ignore[arg-type] # a number or a bool
        return Message(
            number,
            Fate.STORED,
            topic,
            json.dumps(reading, ensure_ascii=False).encode(),
            Key(reading["device_id"], metric, ts.replace(tzinfo=None), event_id.bytes),
            Values(numeric, str(value) if is_text else None, unit, topic, reading),
        )

    def _poisoned(self) -> Message:
        number, topic = len(self.made), f"sensors/live/n{len(self.made) % 7}"
        if self._rng.random() < 5 * self._big:
            return Message(number, Fate.PARKED, topic, b"not JSON %d " % number + b"x" * self._rng.choice(_BIG))
        if self._rng.randrange(5) == 0 and self._unstorable < MAX_UNSTORABLE:
            self._unstorable += 1
            good = self._good(UNSTORABLE)
            return Message(number, Fate.PARKED, good.topic, good.payload)
        payload = (
            b'{"number": %d, "value": ' % number,
            b"\xff\xfe not UTF-8 %d" % number,
            json.dumps({"device_id": "plain", "metric": "door", "value": 1, "number": number}).encode(),
            b"[%d]" % number,
        )[self._rng.randrange(4)]
        return Message(number, Fate.PARKED, topic, payload)
