"""Who says something, when, and with which id: device_id, ts and event_id of an element, by the rules of the plain reading."""

from __future__ import annotations

from typing import Any

from sensorsync.messages.mapping.conversions import check_digits, json_text
from sensorsync.messages.mapping.message import NO_MESSAGE, Get, Message
from sensorsync.messages.mapping.model import MappingError, MappingSpec, Source
from sensorsync.messages.mapping.sources import Sources
from sensorsync.messages.reading import fields
from sensorsync.messages.reading.model import MAX_VALUE_TEXT, Fault
from sensorsync.messages.reading.rows import Kind

_KNOWN_NAMES = 4096
_NAME_KINDS: tuple[Kind, ...] = ("text", "integer")
_ID_KINDS: tuple[Kind, ...] = ("text", "integer", "number", "boolean", "time", "id")


Identified = tuple[str, bytes, str]
"""device_id, event_id, ts."""
_PAYLOAD_ID = "payload id"
"""In `Message.memo`, where the other keys are expressions: none is two names with a blank between them."""


class Names:
    """Device ids and metrics. A name that was found to be good is known, so that a device is checked once."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        """Bounded, and only ever a shortcut."""

    def checked(self, field: str, name: object) -> str:
        """`name` as a text; an integer counts as its digits. Raises Fault."""
        text = str(name) if type(name) is int and -(10**20) < name < 10**20 else name
        checked = fields.checked_name(field, text)
        if len(self.known) >= _KNOWN_NAMES:
            self.known.clear()
        self.known.add(checked)
        return checked

    def compile(self, sources: Sources, source: Source, key: str, field: str) -> Get:
        """The closure for a name, whose value is still to be checked; a constant is checked here. Raises MappingError."""
        get = sources.compile(source, key, field, _NAME_KINDS)
        if source.constant is not None:
            try:
                self.checked(field, get(None, NO_MESSAGE))
            except Fault as fault:
                raise MappingError(key, fault.rejected.message) from None
        return get


class Identity:
    """Finds the identity of elements. A mapping need not say all of it: a table of the user's own has a key of its own."""

    def __init__(self, spec: MappingSpec, sources: Sources, names: Names, max_age: float | None) -> None:
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
        """Whether the mapping says where the device id is."""
        return self._device_id is not None

    @property
    def has_event_id(self) -> bool:
        """Whether there can be an event_id."""
        return self._event_id is not None or self._event_ids is not None or self._missing_id == "payload"

    @property
    def has_ts(self) -> bool:
        """Whether the mapping says where the time is."""
        return self._ts is not None

    @property
    def can_have_ts(self) -> bool:
        """Whether any message can have a time: from the message, from a UUIDv7, or by `missing_ts`."""
        return self.has_ts or self._event_id is not None or self._missing_ts != "park"

    def of(self, element: Any, message: Message) -> Identified:
        """All three. Raises Fault."""
        device_id = self.device_id(element, message)
        event_id = self.event_id(element, message, device_id)
        return device_id, event_id, self.ts(element, message, event_id)

    def device_id(self, element: Any, message: Message) -> str:
        """Raises Fault when there is none."""
        get = self._device_id
        name = None if get is None else get(element, message)
        if type(name) is str and name in self.names.known:
            return name
        return self.names.checked("device_id", name)

    def event_id(self, element: Any, message: Message, device_id: str) -> bytes:
        """16 bytes: of a UUID as it is, else made of the device id and the text. Raises Fault."""
        get = self._event_id
        text = self._several(element, message) if get is None else get(element, message)
        if text is None:
            return self._without_id(message)
        return id_of(text, device_id)

    def ts(self, element: Any, message: Message, event_id: bytes | None) -> str:
        """UTC text of 26 characters. `event_id` may have a time in it. Raises Fault."""
        get = self._ts
        ts: str | None = None if get is None else get(element, message)
        if ts is None:
            ts = self._without_ts(message, event_id)
        if self._max_age is not None:
            fields.check_age(ts, message.received_at, self._max_age)
        return ts

    def _several(self, element: Any, message: Message) -> str | None:
        """Several values as one text that no other values have."""
        if self._event_ids is None:
            return None
        values = [get(element, message) for get in self._event_ids]
        for value in values:
            if value is None:
                return None
            if type(value) in (dict, list):
                raise Fault("event_id", f"a part of event_id is {fields.kind(value)}, not a text or a number")
            check_digits(value, "event_id", "a part of event_id")
        return json_text(values)

    def _without_id(self, message: Message) -> bytes:
        if self._missing_id == "payload":
            if _PAYLOAD_ID not in message.memo:
                message.memo[_PAYLOAD_ID] = fields.payload_id(message.topic, message.payload)
            found: bytes = message.memo[_PAYLOAD_ID]
            return found
        raise Fault("event_id", "event_id is missing, and missing_id is park")

    def _without_ts(self, message: Message, event_id: bytes | None) -> str:
        ts = None if event_id is None else fields.time_of_uuid7(event_id)
        if ts is not None:
            return ts
        if self._missing_ts == "epoch":
            return fields.EPOCH
        if self._missing_ts == "arrival":
            return fields.from_unix(message.received_at)
        raise Fault("ts", "ts is missing, event_id is no UUIDv7 that has a time in it, and missing_ts is park")


def id_of(value: object, device_id: str) -> bytes:
    """The 16 bytes of an id: an integer counts as its digits. Raises Fault."""
    text = json_text(value) if type(value) is int else value
    if type(text) is str and len(text) > MAX_VALUE_TEXT:
        raise Fault("event_id", f"event_id has {len(text)} characters; at most {MAX_VALUE_TEXT} are taken")
    return fields.string_id(text, device_id)
