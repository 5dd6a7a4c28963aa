"""Sample messages, one JSON object per line, as `sensorsync map --file` reads them.

| key               | meaning                                                                                                |
|-------------------|--------------------------------------------------------------------------------------------------------|
| `topic`           | the name of the topic                                                                                  |
| `payload`         | a text stands for its UTF-8 bytes, any other value (object, array, number, ...) for its JSON text      |
| `payload_base64`  | the bytes themselves, instead of `payload`                                                             |
| `user_properties` | MQTT 5 user properties: an object, or an array of [name, value] where a name comes twice; optional     |
| `content_type`    | the MQTT 5 content type; optional                                                                      |
| `received_at`     | the time of arrival, RFC 3339 with a zone; by default now                                              |

The lines of `sensorsync dlq export` are samples, too: a dead letter holds the message as it arrived.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple, NoReturn

from sensorsync.deadletters.transfer import letter_from_line
from sensorsync.messages.reading.fields import json_type_name
from sensorsync.messages.topics import check_name
from sensorsync.pipeline.contract import Delivery

MAX_LINE_BYTES = 4 * 1024 * 1024
"""Bytes of a line, at most. A longer line is bad, and is skipped without being held in memory."""
_SAMPLE_KEYS = ("topic", "payload", "payload_base64", "user_properties", "content_type", "received_at")


class Sample(NamedTuple):
    """A message of a file."""

    line: int
    """Number of the line, counted from 1."""
    delivery: Delivery


class BadSampleLine(NamedTuple):
    """A line that is not a sample, and the reason."""

    line: int
    message: str


def read_samples(stream: BinaryIO) -> Iterator[Sample | BadSampleLine]:
    """Yield the samples of a file in their order. Empty lines are skipped. Raises OSError when the file cannot be read."""
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE_BYTES)
            yield BadSampleLine(number, f"it has more than {MAX_LINE_BYTES} bytes")
        elif line.strip():
            try:
                yield Sample(number, parse_sample(line))
            except RecursionError:
                yield BadSampleLine(number, "it is nested too deeply")
            except ValueError as error:
                yield BadSampleLine(number, str(error))


def parse_sample(line: bytes) -> Delivery:
    """Return the message that a line describes. Raises ValueError with a sentence."""
    try:
        document = json.loads(line, parse_constant=_reject_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg} (character {error.pos})") from error
    if type(document) is not dict:
        raise ValueError(
            f'it is {json_type_name(document)}, not an object such as {{"topic": "a/b", "payload": "21.5"}}'
        )
    if "letter" in document:
        letter = letter_from_line(line)
        return Delivery(letter.topic, letter.payload, letter.qos, letter.first_seen, None, letter.properties)
    if unknown := [name for name in document if name not in _SAMPLE_KEYS]:
        raise ValueError(f"{unknown[0]!r} is none of its keys: {', '.join(_SAMPLE_KEYS)}")
    properties = message_properties(
        _parse_user_properties(document.get("user_properties")), _optional_text(document, "content_type")
    )
    return Delivery(_topic(document), _payload(document), 0, _received_at(document), None, properties)


def message_properties(pairs: Sequence[tuple[str, str]], content_type: str | None) -> Mapping[str, object] | None:
    """Return the MQTT 5 properties of a delivery (user properties and content type); None when there are none."""
    properties: dict[str, object] = {}
    if pairs:
        properties["user_properties"] = [list(pair) for pair in pairs]
    if content_type:
        properties["content_type"] = content_type
    return properties or None


def _topic(document: Mapping[str, Any]) -> str:
    topic = _optional_text(document, "topic")
    if topic is None:
        raise ValueError("topic is missing")
    try:
        return check_name(topic)
    except ValueError as error:
        raise ValueError(f"topic: {error}") from error


def _payload(document: Mapping[str, Any]) -> bytes:
    if ("payload" in document) == ("payload_base64" in document):
        raise ValueError("it has to have either payload or payload_base64")
    if "payload_base64" in document:
        encoded = _optional_text(document, "payload_base64") or ""
        try:
            return base64.b64decode(encoded, validate=True)
        except ValueError as error:
            raise ValueError(f"payload_base64 is not base64: {error}") from error
    payload = document["payload"]
    text = payload if type(payload) is str else json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"payload is not Unicode: it has a lone surrogate (character {error.start})") from error


def _parse_user_properties(raw: object) -> list[tuple[str, str]]:
    pairs = list(raw.items()) if isinstance(raw, dict) else raw
    if pairs is None:
        return []
    if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
        raise ValueError("user_properties is neither an object of texts nor an array of [name, value], both texts")
    return [(name, value) for name, value in pairs]


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(type(part) is str for part in pair)


def _received_at(document: Mapping[str, Any]) -> float:
    text = _optional_text(document, "received_at")
    if text is None:
        return time.time()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"received_at {text!r} is no RFC 3339 time with a zone, such as 2026-01-02T03:04:05Z")
    return moment.timestamp()


def _optional_text(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is not None and type(value) is not str:
        raise ValueError(f"{name} is {json_type_name(value)}, not a text")
    return value


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON; as a text, in quotes, it is a payload all the same")
