"""Letters: what is stored of them, and what comes back."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from sensorsync.messages.reading import Rejected
from sensorsync.pipeline.contract import DeadLetter

MAX_HISTORY: Final = 20
"""Earlier refusals that a letter remembers."""
_MAX_PEEK_BYTES: Final = 2**20
_IDENTITY_PROPERTIES: Final = frozenset({"content_type", "user_properties"})

SELECT_LETTER: Final = (
    "SELECT id, sha256, state, reason, errno, device, first_seen, last_seen, seen, attempts, next_retry_at, refused_at, qos, topic,"
    " message, properties, history, length(payload)"
)
"""What a StoredLetter is made of, but for its payload."""
SELECT_DELIVERY: Final = (
    "SELECT id, topic, payload, qos, first_seen, properties, CASE WHEN reason = 'mqtt' THEN message END"
)
"""A letter's id, and its message as it arrived first. What was no MQTT can't be decoded, whatever it looks like: that is its fault."""


class StoredLetter(NamedTuple):
    """A letter in the box. Times are Unix time in seconds."""

    id: int
    sha256: bytes
    state: str
    """`parked`, or `quarantined` when replay has given up on it."""
    reason: str
    errno: int | None
    device: str | None
    """Its device, as far as that can be told from what can't be read."""
    first_seen: float
    last_seen: float
    seen: int
    """How many times this message was parked."""
    attempts: int
    """How many replays refused it again since it was parked or released."""
    next_retry_at: float
    """Replay leaves it alone until then; 0: at any time."""
    refused_at: float
    """When it was last refused."""
    qos: int
    topic: str
    message: str
    properties: Mapping[str, Any] | None
    """MQTT properties; bytes are `{"base64": "..."}`."""
    history: Sequence[Mapping[str, Any]]
    """Earlier refusals, the oldest first: `at`, `attempt` (0: when it was parked), `reason`, `errno`, `message`."""
    size: int
    """Bytes of the whole payload."""
    payload: bytes
    """The payload, or its beginning when only that was asked for."""

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> StoredLetter:
        """From the columns of SELECT and a payload."""
        properties, history = row[15], row[16]
        read = (
            None if properties is None else json.loads(properties),
            [] if history is None else json.loads(history),
        )
        return cls._make((*row[:15], *read, *row[17:]))

    @property
    def latest_entry(self) -> dict[str, Any]:
        """Its latest refusal, as an entry of a history."""
        return history_entry(self.refused_at, self.attempts, self.reason, self.errno, self.message)


class ReasonCount(NamedTuple):
    """How many letters the box has for one reason in one state. Times are Unix time in seconds."""

    reason: str
    errno: int | None
    state: str
    letters: int
    due: int
    """Of these, the ones that a replay would take now."""
    oldest: float
    """Least `last_seen`."""
    newest: float


def history_entry(at: float, attempt: int, reason: str, errno: int | None, message: str) -> dict[str, Any]:
    """One refusal, as a letter's history has it."""
    return {"at": at, "attempt": attempt, "reason": reason, "errno": errno, "message": message}


def append_history(history: str | None, latest_entry: Mapping[str, Any]) -> str:
    """The text of a history with one refusal more; the oldest is forgotten when it is too long."""
    return json.dumps([*json.loads(history or "[]"), latest_entry][-MAX_HISTORY:])


def letter_row(letter: DeadLetter, device_level: int | None = None) -> tuple[Any, ...]:
    """What parking stores of a letter: sha256, reason, errno, received_at, qos, topic, message, properties, payload, device."""
    properties = None if letter.properties is None else json.dumps(dict(letter.properties), default=_as_json)
    topic = escape_surrogates(letter.topic)
    return (
        message_identity(topic, letter.payload, letter.properties),
        letter.reason,
        letter.errno,
        letter.received_at,
        letter.qos,
        topic,
        escape_surrogates(letter.message),
        properties,
        letter.payload,
        guess_device(topic, letter.payload, device_level),
    )


def message_identity(topic: str, payload: bytes, properties: Mapping[str, Any] | None = None) -> bytes:
    """SHA-256 of a message: its topic, a zero byte (which no topic has, [MQTT-4.7.3-2]), its payload.

    With the properties that a mapping may read, where it has such, it is the SHA-256 of that and of them: two messages that differ
    only in a user property can give two rows, and so are two letters.
    """
    digest = hashlib.sha256(topic.encode() + b"\0" + payload).digest()
    read = {name: value for name, value in (properties or {}).items() if name in _IDENTITY_PROPERTIES}
    if not read:
        return digest
    return hashlib.sha256(digest + json.dumps(read, sort_keys=True, default=_as_json).encode()).digest()


def guess_device(topic: str, payload: bytes, level: int | None = None) -> str | None:
    """The device that a letter seems to be of, to find it by: unverified. `level`: the topic level that is the device, if one is."""
    if level is not None:
        levels = topic.split("/")
        return levels[level] if level < len(levels) else None
    if len(payload) > _MAX_PEEK_BYTES:
        return None
    opened = _decode_envelope()(payload)
    if isinstance(opened, Rejected):
        return None
    try:
        message = orjson.loads(opened)
    except orjson.JSONDecodeError:
        return None
    device = message.get("device_id") if isinstance(message, dict) else None
    return device if isinstance(device, str) else None


@functools.cache
def _decode_envelope() -> Callable[[bytes], bytes | Rejected]:
    from sensorsync.messages.envelope import EnvelopeDecoder  # noqa: PLC0415 - cryptography is slow to import, and to look needs none

    return EnvelopeDecoder(signatures="off").verify_and_decrypt


def escape_surrogates(text: str) -> str:
    """Lone surrogates have no UTF-8; a message that quotes one is stored with its escape."""
    return text.encode(errors="backslashreplace").decode()


def _as_json(value: object) -> object:
    return (
        {"base64": base64.b64encode(value).decode()}
        if isinstance(value, bytes | bytearray | memoryview)
        else str(value)
    )
