"""Letters: what is stored of them, and what comes back."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sensorsync.pipeline.contract import DeadLetter


class StoredLetter(NamedTuple):
    """A letter in the box. Times are Unix time in seconds."""

    id: int
    state: str
    """`parked`, or `quarantined` when replay has given up on it."""
    reason: str
    errno: int | None
    first_seen: float
    last_seen: float
    seen: int
    """How many times this message was parked."""
    attempts: int
    """How many times it was replayed."""
    next_retry_at: float | None
    """Replay leaves it alone until then; None: at any time."""
    qos: int
    topic: str
    message: str
    properties: Mapping[str, Any] | None
    """MQTT properties; bytes are `{"base64": "..."}`."""
    size: int
    """Bytes of the whole payload."""
    payload: bytes
    """The payload, or its beginning when only that was asked for."""


class ReasonCount(NamedTuple):
    """How many letters the box has for one reason in one state."""

    reason: str
    state: str
    letters: int


def row_of(letter: DeadLetter) -> tuple[Any, ...]:
    """What parking stores of a letter: sha256, reason, errno, received_at, qos, topic, message, properties, payload."""
    properties = None if letter.properties is None else json.dumps(dict(letter.properties), default=_as_json)
    return (
        identity(letter.topic, letter.payload),
        letter.reason,
        letter.errno,
        letter.received_at,
        letter.qos,
        _storable(letter.topic),
        _storable(letter.message),
        properties,
        letter.payload,
    )


def identity(topic: str, payload: bytes) -> bytes:
    """SHA-256 of a message: its topic, a zero byte (which no topic has, [MQTT-4.7.3-2]), its payload."""
    return hashlib.sha256(topic.encode(errors="surrogatepass") + b"\0" + payload).digest()


def _as_json(value: object) -> object:
    return (
        {"base64": base64.b64encode(value).decode()}
        if isinstance(value, bytes | bytearray | memoryview)
        else str(value)
    )


def _storable(text: str) -> str:
    """Lone surrogates have no UTF-8; a message that quotes one is stored with its escape."""
    return text.encode(errors="backslashreplace").decode()
