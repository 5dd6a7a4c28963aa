"""Dead letters as rows of the box: conversion of a message into a row, and of a row into a letter."""

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
"""The number of earlier rejections in the history of a letter."""
_MAX_PEEK_BYTES: Final = 2**20
_IDENTITY_PROPERTIES: Final = frozenset({"content_type", "user_properties"})

SELECT_LETTER: Final = (
    "SELECT id, sha256, state, reason, errno, device, first_seen, last_seen, seen, attempts, next_retry_at, refused_at, qos, topic,"
    " message, properties, history, length(payload)"
)
"""The columns of a StoredLetter except its payload."""
SELECT_DELIVERY: Final = (
    "SELECT id, seen, topic, payload, qos, first_seen, properties, CASE WHEN reason = 'mqtt' THEN message END"
)
"""The columns of a letter's version, and of its message as it arrived first.

A message with reason 'mqtt' was not valid MQTT and cannot be decoded, even if its payload can. Its error is selected as
well.
"""


class LetterVersion(NamedTuple):
    """A letter as it was when it was chosen. It is another version once its message is parked again.

    The count differs where times may be equal: a clock that was set back parks with an earlier time.
    """

    id: int
    seen: int


class StoredLetter(NamedTuple):
    """A letter in the box. Times are Unix time in seconds."""

    id: int
    sha256: bytes
    state: str
    """`parked`, or `quarantined` when replay does not try it again."""
    reason: str
    errno: int | None
    device: str | None
    """The device of the letter, as far as it can be guessed from a payload that may be invalid."""
    first_seen: float
    last_seen: float
    seen: int
    """The number of times that this message was parked."""
    attempts: int
    """The number of replays that rejected it again since it was parked or released."""
    next_retry_at: float
    """The time before which replay skips it; 0 for none."""
    refused_at: float
    """The time of the latest rejection."""
    qos: int
    topic: str
    message: str
    properties: Mapping[str, Any] | None
    """MQTT properties; bytes are `{"base64": "..."}`."""
    history: Sequence[Mapping[str, Any]]
    """Earlier rejections, the oldest first: `at`, `attempt` (0: when it was parked), `reason`, `errno`, `message`."""
    size: int
    """Bytes of the whole payload."""
    payload: bytes
    """The payload, or only its beginning when a limit was given."""

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> StoredLetter:
        """Return the letter of a row with the columns of SELECT_LETTER and a payload."""
        properties, history = row[15], row[16]
        read = (
            None if properties is None else json.loads(properties),
            [] if history is None else json.loads(history),
        )
        return cls._make((*row[:15], *read, *row[17:]))

    @property
    def version(self) -> LetterVersion:
        """The letter as it was read."""
        return LetterVersion(self.id, self.seen)

    @property
    def latest_entry(self) -> dict[str, Any]:
        """The latest rejection, as an entry of a history."""
        return history_entry(self.refused_at, self.attempts, self.reason, self.errno, self.message)


class ReasonCount(NamedTuple):
    """The number of letters with one reason in one state. Times are Unix time in seconds."""

    reason: str
    errno: int | None
    state: str
    letters: int
    due: int
    """The number of these letters that a replay would read now."""
    oldest: float
    """The least `last_seen`."""
    newest: float


def history_entry(at: float, attempt: int, reason: str, errno: int | None, message: str) -> dict[str, Any]:
    """Return one rejection as an entry of a letter's history."""
    return {"at": at, "attempt": attempt, "reason": reason, "errno": errno, "message": message}


def append_history(history: str | None, latest_entry: Mapping[str, Any]) -> str:
    """Return the JSON of a history with another rejection. The oldest one is dropped when the history is too long."""
    return json.dumps([*json.loads(history or "[]"), latest_entry][-MAX_HISTORY:])


def letter_row(letter: DeadLetter, device_level: int | None = None) -> tuple[Any, ...]:
    """Return the columns of a new letter.

    They are sha256, reason, errno, received_at, qos, topic, message, properties, payload, device.
    """
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
    """Return the SHA-256 of a message: of its topic, a zero byte (which no topic has, [MQTT-4.7.3-2]), and its payload.

    Where a message has properties that a mapping may read, the result is the SHA-256 of that hash and these properties.
    Two messages that differ only in a user property can give two rows, and are therefore two letters.
    """
    digest = hashlib.sha256(topic.encode() + b"\0" + payload).digest()
    read = {name: value for name, value in (properties or {}).items() if name in _IDENTITY_PROPERTIES}
    if not read:
        return digest
    return hashlib.sha256(digest + json.dumps(read, sort_keys=True, default=_as_json).encode()).digest()


def guess_device(topic: str, payload: bytes, level: int | None = None) -> str | None:
    """Return the device that a letter probably belongs to, unverified, so that the letter can be found by it.

    `level`: the topic level with the device, if the topic has one.
    """
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
    from sensorsync.messages.envelope import EnvelopeDecoder  # noqa: PLC0415 - cryptography is slow to import

    return EnvelopeDecoder(signatures="off").verify_and_decrypt


def escape_surrogates(text: str) -> str:
    """Replace lone surrogates, which have no UTF-8, by escapes, so that a message that quotes one can be stored."""
    return text.encode(errors="backslashreplace").decode()


def _as_json(value: object) -> object:
    return (
        {"base64": base64.b64encode(value).decode()}
        if isinstance(value, bytes | bytearray | memoryview)
        else str(value)
    )
