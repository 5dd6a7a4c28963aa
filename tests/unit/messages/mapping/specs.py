"""Helpers for short specifications of mappings, and for messages decoded by them."""

from __future__ import annotations

import json
from typing import Any

from sensorsync.messages.mapping import Mappings, MappingSpec, ReadingSpec, Source
from sensorsync.messages.reading import Column, FanOut, Reading, Rejected, TableRow, TargetTable

EVENT = "0193a5f2-7c1e-4abc-8def-0123456789ab"
TS = "2026-01-02T03:04:05.123456Z"
STORED_TS = "2026-01-02 03:04:05.123456"
TOPIC = "home/kitchen/sensor/state"
RECEIVED_AT = 1_800_000_000.25
OF_MESSAGE: dict[str, Any] = {"event_id": (Source(root="id"),), "ts": Source(root="ts")}
"""Identity of elements of `each` that have none."""


def path(text: str, **changes: Any) -> Source:
    return Source(path=text, **changes)


def constant(text: str, **changes: Any) -> Source:
    return Source(constant=text, **changes)


def reading(
    metric: str | Source, value: str | Source, unit: str | None = None, *, optional: bool = False
) -> ReadingSpec:
    return ReadingSpec(
        constant(metric) if isinstance(metric, str) else metric,
        path(value) if isinstance(value, str) else value,
        None if unit is None else constant(unit),
        optional,
    )


def single(value: str | Source = "value", **changes: Any) -> MappingSpec:
    return spec(readings=(reading("temperature", value),), single=True, **changes)


def spec(**changes: Any) -> MappingSpec:
    given: dict[str, Any] = {
        "name": "m",
        "topic": "home/{room}/{device}/state",
        "event_id": (path("id"),),
        "device_id": Source(topic="{device}"),
        "ts": path("ts"),
    }
    return MappingSpec(**{**given, **changes})


def table(columns: dict[str, Source], key: tuple[str, ...], **changes: Any) -> MappingSpec:
    own = TargetTable("machine_state", tuple(Column(name, source.type) for name, source in columns.items()), key)
    given: dict[str, Any] = {"name": "m", "topic": "home/{room}/{device}/state", "table": own}
    return MappingSpec(**{**given, **changes, "columns": tuple(columns.values())})


def message(**members: Any) -> dict[str, Any]:
    return {"id": EVENT, "ts": TS, "value": 21.5, **members}


def decode(
    specs: MappingSpec | list[MappingSpec], document: Any, topic: str = TOPIC, **changes: Any
) -> Reading | TableRow | FanOut | Rejected | None:
    """Decode `document`: bytes as they are, any other value as JSON."""
    given = {name: changes.pop(name) for name in ("max_age", "max_payload") if name in changes}
    mappings = Mappings(specs if isinstance(specs, list) else [specs], **given)
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return mappings.decode(payload, topic, changes.get("properties"), changes.get("received_at", RECEIVED_AT))


def one(specs: MappingSpec | list[MappingSpec], document: Any, topic: str = TOPIC, **changes: Any) -> Reading:
    found = decode(specs, document, topic, **changes)
    assert isinstance(found, Reading), found
    return found


def row(specs: MappingSpec, document: Any, topic: str = TOPIC, **changes: Any) -> TableRow:
    found = decode(specs, document, topic, **changes)
    assert isinstance(found, TableRow), found
    return found


def parts(
    specs: MappingSpec | list[MappingSpec], document: Any, topic: str = TOPIC, **changes: Any
) -> tuple[Reading | TableRow | Rejected, ...]:
    found = decode(specs, document, topic, **changes)
    assert isinstance(found, FanOut), found
    return found.parts


def readings(
    specs: MappingSpec | list[MappingSpec], document: Any, topic: str = TOPIC, **changes: Any
) -> list[Reading]:
    found = parts(specs, document, topic, **changes)
    assert all(isinstance(part, Reading) for part in found), found
    return [part for part in found if isinstance(part, Reading)]


def refused(
    specs: MappingSpec | list[MappingSpec], document: Any, topic: str = TOPIC, **changes: Any
) -> tuple[str, str]:
    """Return (reason, message without the mapping's name)."""
    found = decode(specs, document, topic, **changes)
    assert isinstance(found, Rejected), found
    assert found.message.startswith("m: ")
    return found.reason, found.message.removeprefix("m: ")
