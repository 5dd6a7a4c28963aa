"""The identity of an element: its device_id, ts and event_id, by the rules of the plain reading."""

from __future__ import annotations

from typing import Any

from sensorsync.messages.mapping.conversions import json_text, validate_precision
from sensorsync.messages.mapping.message import EMPTY_MESSAGE, Message, ValueGetter
from sensorsync.messages.mapping.model import MappingError, MappingSpec, Source
from sensorsync.messages.mapping.sources import SourceCompiler
from sensorsync.messages.reading import fields
from sensorsync.messages.reading.model import MAX_VALUE_TEXT, DecodeError
from sensorsync.messages.reading.rows import ColumnKind

_KNOWN_NAMES = 4096
_NAME_KINDS: tuple[ColumnKind, ...] = ("text", "integer")
_ID_KINDS: tuple[ColumnKind, ...] = ("text", "integer", "number", "boolean", "time", "id")


IdentityValues = tuple[str, bytes, str]
"""Values of an element: (device_id, event_id, ts)."""
_PAYLOAD_ID = "payload id"
"""Key in `Message.cache`. The other keys are expressions, and none of them is two names with a blank between them."""


class NameValidator:
    """A validator of device ids and metrics. It remembers valid names, so that a device is checked once."""

    def __init__(self) -> None:
        self.valid_names: set[str] = set()
        """Cache of valid names. Its size is bounded, and nothing depends on its content."""

    def validate(self, field: str, name: object) -> str:
        """Return `name` as a text. An integer becomes its digits. Raises DecodeError."""
        text = str(name) if type(name) is int and -(10**20) < name < 10**20 else name
        checked = fields.checked_name(field, text)
        if len(self.valid_names) >= _KNOWN_NAMES:
            self.valid_names.clear()
        self.valid_names.add(checked)
        return checked

    def compile(self, sources: SourceCompiler, source: Source, key: str, field: str) -> ValueGetter:
        """Return the closure for a name. Its value is still to be validated; a constant is validated here. Raises MappingError."""
        get = sources.compile(source, key, field, _NAME_KINDS)
        if source.constant is not None:
            try:
                self.validate(field, get(None, EMPTY_MESSAGE))
            except DecodeError as error:
                raise MappingError(key, error.rejection.message) from None
        return get


class Identity:
    """The sources of an element's identity. A mapping may omit some of them, because a target table has its own key."""

    def __init__(self, spec: MappingSpec, sources: SourceCompiler, names: NameValidator, max_age: float | None) -> None:
        self.names = names
        self._missing_ts = spec.missing_ts
        self._missing_id = spec.missing_id
        self._max_age = max_age
        self._device_id = (
            None if spec.device_id is None else names.compile(sources, spec.device_id, "device_id", "device_id")
        )
        ids = [
            sources.compile(source, f"event_id[{place}]", "event_id", _ID_KINDS)
            for place, source in enumerate(spec.event_id)
        ]
        self._event_id = ids[0] if len(ids) == 1 else None
        self._event_ids = ids if len(ids) > 1 else None
        self._ts = None if spec.ts is None else sources.compile(spec.ts, "ts", "ts", ("time",))

    @property
    def has_device_id(self) -> bool:
        """True when the mapping has a source for the device id."""
        return self._device_id is not None

    @property
    def has_event_id(self) -> bool:
        """True when an element can have an event_id."""
        return self._event_id is not None or self._event_ids is not None or self._missing_id == "payload"

    @property
    def has_ts(self) -> bool:
        """True when the mapping has a source for the time."""
        return self._ts is not None

    @property
    def can_have_ts(self) -> bool:
        """True when a message can have a time: from its content, from a UUIDv7, or by `missing_ts`."""
        return self.has_ts or self._event_id is not None or self._missing_ts != "park"

    def resolve(self, element: Any, message: Message) -> IdentityValues:
        """Return (device_id, event_id, ts). Raises DecodeError."""
        device_id = self.device_id(element, message)
        event_id = self.event_id(element, message, device_id)
        return device_id, event_id, self.ts(element, message, event_id)

    def device_id(self, element: Any, message: Message) -> str:
        """Return the device id. Raises DecodeError when there is none or it is not valid."""
        get = self._device_id
        name = None if get is None else get(element, message)
        if type(name) is str and name in self.names.valid_names:
            return name
        return self.names.validate("device_id", name)

    def event_id(self, element: Any, message: Message, device_id: str) -> bytes:
        """Return 16 bytes. A UUID is taken as it is; another text is combined with the device id. Raises DecodeError."""
        get = self._event_id
        text = self._combined_id(element, message) if get is None else get(element, message)
        if text is None:
            return self._default_event_id(message)
        return id_from_value(text, device_id)

    def ts(self, element: Any, message: Message, event_id: bytes | None) -> str:
        """Return UTC text of 26 characters. `event_id` may contain a time. Raises DecodeError."""
        get = self._ts
        ts: str | None = None if get is None else get(element, message)
        if ts is None:
            ts = self._default_ts(message, event_id)
        if self._max_age is not None:
            fields.check_age(ts, message.received_at, self._max_age)
        return ts

    def _combined_id(self, element: Any, message: Message) -> str | None:
        """Return several values as one text that no other values have, or None when one of them is missing."""
        if self._event_ids is None:
            return None
        values = [get(element, message) for get in self._event_ids]
        for value in values:
            if value is None:
                return None
            if type(value) in (dict, list):
                raise DecodeError(
                    "event_id", f"a part of event_id is {fields.json_type_name(value)}, not a text or a number"
                )
            validate_precision(value, "event_id", "a part of event_id")
        return json_text(values)

    def _default_event_id(self, message: Message) -> bytes:
        if self._missing_id == "payload":
            if _PAYLOAD_ID not in message.cache:
                message.cache[_PAYLOAD_ID] = fields.event_id_from_payload(message.topic, message.payload)
            found: bytes = message.cache[_PAYLOAD_ID]
            return found
        raise DecodeError("event_id", "event_id is missing, and missing_id is park")

    def _default_ts(self, message: Message, event_id: bytes | None) -> str:
        ts = None if event_id is None else fields.time_of_uuid7(event_id)
        if ts is not None:
            return ts
        if self._missing_ts == "epoch":
            return fields.EPOCH
        if self._missing_ts == "arrival":
            return fields.unix_to_utc(message.received_at)
        raise DecodeError("ts", "ts is missing, event_id is no UUIDv7 that has a time in it, and missing_ts is park")


def id_from_value(value: object, device_id: str) -> bytes:
    """Return the 16 bytes of an id. An integer becomes its digits. Raises DecodeError."""
    text = json_text(value) if type(value) is int else value
    if type(text) is str and len(text) > MAX_VALUE_TEXT:
        raise DecodeError("event_id", f"event_id has {len(text)} characters; at most {MAX_VALUE_TEXT} are taken")
    return fields.event_id_from_string(text, device_id)
