"""Letters as lines of JSON, the format of `dlq export` and `dlq import`. Payloads are base64, times Unix time in seconds."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from sensorsync.deadletters.criteria import State
from sensorsync.deadletters.letters import StoredLetter, escape_surrogates, message_identity

_INTEGER_LIMIT = 2**63
BoundedInt = Annotated[int, Field(ge=0, lt=_INTEGER_LIMIT)]


class _HistoryEntry(BaseModel):
    """One rejection, as in `letters.history_entry`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    at: FiniteFloat
    attempt: BoundedInt
    reason: str
    errno: Annotated[int, Field(ge=-_INTEGER_LIMIT, lt=_INTEGER_LIMIT)] | None
    message: str


class _LetterLine(BaseModel):
    """A letter without its id, which the next box assigns again, and without values that are derived from others."""

    model_config = ConfigDict(strict=True, extra="forbid")

    letter: Literal[1]
    """The version of this format."""
    state: State
    reason: str
    errno: Annotated[int, Field(ge=-_INTEGER_LIMIT, lt=_INTEGER_LIMIT)] | None
    device: str | None
    first_seen: FiniteFloat
    last_seen: FiniteFloat
    seen: BoundedInt
    attempts: BoundedInt
    next_retry_at: FiniteFloat
    refused_at: FiniteFloat
    qos: Annotated[int, Field(ge=0, le=2)]
    topic: str
    message: str
    properties: Any
    history: list[_HistoryEntry]
    payload: str


def letter_to_line(letter: StoredLetter) -> bytes:
    """Return a letter as one line, with its line break."""
    shown = {name: value for name, value in letter._asdict().items() if name not in {"id", "sha256", "size"}}
    shown["payload"] = base64.b64encode(letter.payload).decode()
    return json.dumps({"letter": 1, **shown}).encode() + b"\n"


def letter_from_line(line: bytes) -> StoredLetter:
    """Return the letter of a line (with the id 0). Raises ValueError with a sentence."""
    try:
        read = _LetterLine.model_validate(json.loads(line))
        payload = base64.b64decode(read.payload, validate=True)
    except binascii.Error as error:
        raise ValueError(f"payload is not base64: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if read.properties is not None and not isinstance(read.properties, dict):
        raise ValueError("properties: neither an object nor null")
    topic = escape_surrogates(read.topic)
    return StoredLetter(
        id=0,
        sha256=message_identity(topic, payload, read.properties),
        state=read.state,
        reason=read.reason,
        errno=read.errno,
        device=read.device,
        first_seen=read.first_seen,
        last_seen=read.last_seen,
        seen=read.seen,
        attempts=read.attempts,
        next_retry_at=read.next_retry_at,
        refused_at=read.refused_at,
        qos=read.qos,
        topic=topic,
        message=escape_surrogates(read.message),
        properties=read.properties,
        history=[entry.model_dump() for entry in read.history],
        size=len(payload),
        payload=payload,
    )
