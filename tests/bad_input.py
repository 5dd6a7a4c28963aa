"""What devices send when they send nonsense, each with the reason that it must be parked for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

GOOD: dict[str, Any] = {
    "event_id": "0198c5a0-0000-7000-8000-000000000001",
    "device_id": "boiler-1",
    "metric": "temperature",
    "ts": "2026-01-02T03:04:05.678901Z",
    "value": 21.5,
}
GOOD_READING = json.dumps(GOOD).encode()


def _with(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def _without(name: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


BAD_MESSAGES: list[tuple[bytes, str]] = [
    (b"not JSON at all", "json"),
    (b"", "json"),
    (b'{"event_id": ', "json"),
    (b"[1, 2, 3]", "type"),
    (b"231.7", "type"),
    (b"null", "type"),
    (_with(value=float("nan")), "nan"),
    (_with(value=float("inf")), "nan"),
    (GOOD_READING.replace(b"21.5", b"1e400"), "nan"),
    (_with(value={"nested": 1}), "value"),
    (_with(value="x" * 5000), "value"),
    (_without("value"), "value"),
    (_with(note="x" * 2**20), "too_large"),
    (GOOD_READING.replace(b"boiler-1", b"boiler-\xff"), "encoding"),
    (GOOD_READING.replace(b"boiler-1", b"boiler-\\ud800"), "json"),
    (_with(ts="yesterday"), "ts"),
    (_with(ts="2026-02-30T00:00:00Z"), "ts"),
    (_with(ts="0001-01-01T00:00:00Z"), "ts"),
    (_with(ts="2026-01-02T03:04:05"), "ts"),
    (_with(ts=1767323045), "ts"),
    (_with(ts=None, event_id="no-uuid-and-so-no-time"), "ts"),
    (_without("event_id"), "event_id"),
    (_with(event_id=7), "event_id"),
    (_with(device_id="d" * 300), "device_id"),
    (_with(device_id=" boiler"), "device_id"),
    (_with(device_id=5), "device_id"),
    (_without("device_id"), "device_id"),
    (_with(metric=""), "metric"),
    (_with(unit=["C"]), "unit"),
    (b'{"a":' * 60 + b"1" + b"}" * 60, "nesting"),
    (b"eyJhbGciOiJIUzI1NiIsImtpZCI6ImRlZmF1bHQifQ.eyJhIjoxfQ." + b"A" * 43, "signature"),
    (b"eyJhbGciOiJub25lIn0.eyJhIjoxfQ.", "signature"),
]


def publish(port: int, payloads: Iterable[bytes], topic: str = "t/x") -> None:
    """Publish by an independent client (paho), QoS 1, and wait for each acknowledgement."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        for sent in [client.publish(topic, payload, qos=1) for payload in payloads]:
            sent.wait_for_publish(10)
            assert sent.is_published()
    finally:
        client.disconnect()
        client.loop_stop()
