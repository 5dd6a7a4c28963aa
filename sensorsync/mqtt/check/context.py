"""The state that the steps share: the settings, names that belong to this run alone, and the publishing client."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from mqtt5 import ConnAckPacket

from sensorsync.config import Settings
from sensorsync.mqtt.check.client import CheckClient
from sensorsync.mqtt.check.report import StepFailed
from sensorsync.mqtt.client.causes import CAUSES, cause_of_reason_code
from sensorsync.mqtt.client.options import ConnectOptions, connect_options

FIRST_FAILURE_CODE = 0x80
"""Lowest reason code that is a failure."""


@dataclass(slots=True)
class CheckContext:
    """The state of one check of a broker. `exit_stack` closes the connections that steps leave open for later steps."""

    settings: Settings
    topic: str
    exit_stack: AsyncExitStack
    check_id: str = field(default_factory=lambda: secrets.token_hex(4))
    connack: ConnAckPacket = field(default_factory=ConnAckPacket)
    """CONNACK with the limits that the broker granted."""
    rtt: float = 0.0
    """Seconds of one round trip to the broker."""
    base_options: ConnectOptions = field(init=False)
    _publisher: CheckClient | None = None

    def __post_init__(self) -> None:
        self.base_options = replace(connect_options(self.settings, ""), clean_start=True, session_expiry=0)

    @property
    def client_id_prefix(self) -> str:
        """Prefix of all our client ids."""
        return f"{self.settings.mqtt.client_id}-check-{self.check_id}"

    @property
    def delivery_timeout(self) -> float:
        """Seconds after which a message that was not delivered counts as lost."""
        return min(self.settings.mqtt.connect_timeout, 3.0)

    def options(self, role: str, **changes: Any) -> ConnectOptions:
        """Return the options of a client. It has a clean start and leaves no session behind, unless `changes` override that."""
        return replace(self.base_options, client_id=f"{self.client_id_prefix}-{role}", **changes)

    async def publisher(self) -> CheckClient:
        """Return the client that publishes. It is connected at its first use."""
        if self._publisher is None:
            self._publisher = await self.exit_stack.enter_async_context(CheckClient(self.options("publisher")))
        return self._publisher

    def make_payloads(self, step: str, count: int) -> list[bytes]:
        """Return payloads that no other client sends."""
        return [
            f'{{"sensorsync": "check-cloud", "run": "{self.check_id}", "{step}": {n}}}'.encode() for n in range(count)
        ]

    async def publish(self, payloads: Sequence[bytes]) -> list[int]:
        """Publish within the broker's Receive Maximum, and return the reason codes.

        Raises StepFailed for a reason code that is a failure.
        """
        publisher = await self.publisher()
        room = max(1, publisher.connack.receive_max)
        codes: list[int] = []
        for start in range(0, len(payloads), room):
            ids = publisher.publish(self.topic, payloads[start : start + room])
            codes += await publisher.wait_for_acks(ids, self.settings.mqtt.connect_timeout)
        for code in codes:
            if code >= FIRST_FAILURE_CODE:
                cause = cause_of_reason_code(code)
                denied = CAUSES["publish_denied"] if cause.key == "not_authorized" else cause
                raise StepFailed(denied, f"PUBLISH to {self.topic!r}: {cause.description} (0x{code:02X})")
        return codes
