"""Readings for tests of the sinks."""

from __future__ import annotations

import json
import uuid
from typing import Any

from sensorsync.pipeline.contract import Reading

ARRIVAL = 1_767_322_800.25
"""2026-01-02 03:00:00.250000 UTC."""


def reading(number: int = 0, **changes: Any) -> Reading:
    """The `number`-th reading of device `run-1`; `changes` replace fields. Two with the same number have the same key."""
    plain = Reading(
        event_id=uuid.UUID(int=number).bytes,
        device_id="run-1",
        metric="temperature",
        ts=f"2026-01-02 03:04:05.{number:06d}",
        value=20.0 + number,
        value_text=None,
        unit="°C",
        topic="sensors/live/stress_test",
        received_at=ARRIVAL,
        payload=json.dumps({"seq": number}),
    )
    return plain._replace(**changes)


def readings(count: int, **changes: Any) -> list[Reading]:
    """The first `count` readings."""
    return [reading(number, **changes) for number in range(count)]
