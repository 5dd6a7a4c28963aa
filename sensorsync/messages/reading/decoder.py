"""The decoder of readings: payload -> Reading | Rejected, by the rules below. It is the hot path of the writer threads.

A reading is a JSON object:

| field       | type                             | absent or null                                                                 |
|-------------|----------------------------------|--------------------------------------------------------------------------------|
| `event_id`  | a UUID, or any other string      | `missing_id`: `park`, or `payload` (UUIDv5 of topic and payload)                |
| `device_id` | string                           | rejected, unless a topic level gives it                                        |
| `metric`    | string                           | rejected, unless a topic level gives it                                        |
| `ts`        | RFC 3339 with a zone             | the time in a UUIDv7 `event_id`, else `missing_ts`: `park`, `epoch`, `arrival` |
| `value`     | number, boolean (0/1) or string  | absent: rejected; null: stored as "no value"                                   |
| `unit`      | string                           | none                                                                           |

Other members stay in `payload` only. When a name occurs twice, the last one counts (RFC 8259 leaves this open; MySQL does the same).
An integer beyond 64 bits becomes the nearest double in `value`, and keeps its digits in `payload`.
"""

from __future__ import annotations

from typing import Any

import orjson

from sensorsync.messages.reading import fields
from sensorsync.messages.reading.model import MAX_TOPIC, MAX_UNIT, DecodeError, Reading, ReadingRules, Rejected
from sensorsync.messages.reading.text import json_rejection

_KNOWN_NAMES = 4096


class ReadingDecoder:
    """A decoder that turns payloads into readings by fixed rules. It is thread-safe."""

    def __init__(self, rules: ReadingRules | None = None) -> None:
        self.rules = rules = rules or ReadingRules()
        self._max_payload = rules.max_payload
        self._max_age = rules.max_age
        self._valid_names: set[str] = set()
        """Cache of valid names, so that a device is checked once. Its size is bounded, and nothing depends on its content."""
        self._uses_topic_levels = rules.device_id_level is not None or rules.metric_level is not None

    def decode(self, payload: bytes, topic: str, received_at: float) -> Reading | Rejected:
        """Return the reading in `payload`, or the reason of its rejection. `received_at` is in seconds since 1970. Raises nothing."""
        if len(payload) > self._max_payload:
            return Rejected("too_large", f"the payload has {len(payload)} bytes; at most {self._max_payload} are taken")
        try:
            text = payload.decode()
            message = orjson.loads(text)
            if type(message) is not dict:
                return Rejected("type", f"the payload is {fields.json_type_name(message)}, not a JSON object")
            if "[" in text or text.find("{", 1) > 0:
                fields.check_nesting(message)
            return self._read(message, text, topic, received_at)
        except UnicodeDecodeError as broken:
            return Rejected("encoding", f"the payload is not UTF-8 (byte {broken.start})")
        except orjson.JSONDecodeError as error:
            return json_rejection(payload.decode(), error)
        except DecodeError as error:
            return error.rejection

    def _read(self, message: dict[str, Any], text: str, topic: str, received_at: float) -> Reading:
        """Make the reading of a JSON object. Raises DecodeError.

        Ordinary values are decided in line, because nearly every message has them. `fields` has the complete rules.
        """
        get = message.get
        device_id, metric = (
            self._names(message, topic) if self._uses_topic_levels else (get("device_id"), get("metric"))
        )
        known = self._valid_names
        if type(device_id) is not str or device_id not in known:
            device_id = self._name("device_id", device_id)
        if type(metric) is not str or metric not in known:
            metric = self._name("metric", metric)
        if len(topic) > MAX_TOPIC:
            raise DecodeError("topic", f"the topic has {len(topic)} characters; at most {MAX_TOPIC} are stored")

        event_id = get("event_id")
        event_id = (
            self._missing_id(topic, text) if event_id is None else fields.event_id_from_string(event_id, device_id)
        )
        ts = get("ts")
        ts = self._missing_ts(event_id, received_at) if ts is None else fields.rfc3339_to_utc(ts)
        if self._max_age is not None:
            fields.check_age(ts, received_at, self._max_age)

        value, value_text = get("value"), None
        if type(value) is not float:
            value, value_text = fields.value_columns(message)
        unit = get("unit")
        if unit is not None:
            unit = fields.checked_text("unit", unit, MAX_UNIT)
        row = (event_id, device_id, metric, ts, value, value_text, unit, topic, received_at, text)
        return tuple.__new__(Reading, row)  # half the time of Reading(...)

    def _name(self, field: str, name: object) -> str:
        checked = fields.checked_name(field, name)
        if len(self._valid_names) >= _KNOWN_NAMES:
            self._valid_names.clear()
        self._valid_names.add(checked)
        return checked

    def _names(self, message: dict[str, Any], topic: str) -> tuple[Any, Any]:
        levels = topic.split("/")
        return (
            fields.from_level(levels, self.rules.device_id_level, "device_id", message),
            fields.from_level(levels, self.rules.metric_level, "metric", message),
        )

    def _missing_id(self, topic: str, text: str) -> bytes:
        if self.rules.missing_id == "payload":
            return fields.event_id_from_payload(topic, text.encode())
        raise DecodeError("event_id", "event_id is missing, and reading.missing_id is park")

    def _missing_ts(self, event_id: bytes, received_at: float) -> str:
        ts = fields.time_of_uuid7(event_id)
        if ts is not None:
            return ts
        if self.rules.missing_ts == "epoch":
            return fields.EPOCH
        if self.rules.missing_ts == "arrival":
            return fields.unix_to_utc(received_at)
        raise DecodeError(
            "ts", "ts is missing, event_id is no UUIDv7 that has a time in it, and reading.missing_ts is park"
        )
