"""A message tried out: what it would become, and who decides that. Nothing is stored."""

from __future__ import annotations

from dataclasses import dataclass

from sensorsync.config import Settings
from sensorsync.messages.mapping.explaining import PassedOver, explain
from sensorsync.pipeline.contract import Delivery, FanOut, Rejected, Row
from sensorsync.wiring import envelope, mappings, message_decoder


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one message."""

    decoded: Row | FanOut | Rejected
    mapping: str | None = None
    """Name of the mapping that took it; None: it is taken as a plain reading, or is rejected before that."""
    passed_over: tuple[PassedOver, ...] = ()


class Trial:
    """Tries messages by these settings, with the decoder of `subscribe`. Raises ConfigurationError for keys that cannot be read."""

    def __init__(self, settings: Settings) -> None:
        self._decode = message_decoder(settings)
        self._open = envelope(settings.security).open
        self._mappings = mappings(settings)
        self.names = [mapping.name for mapping in settings.mappings]
        """The configured mappings, in their order."""

    def of(self, delivery: Delivery) -> Outcome:
        """What becomes of this message."""
        if delivery.fault is not None:
            return Outcome(Rejected("mqtt", delivery.fault))
        decoded = self._decode(delivery)
        opened = self._open(delivery.payload)
        if isinstance(opened, Rejected):
            return Outcome(decoded)
        explained = explain(self._mappings, opened, delivery.topic)
        return Outcome(decoded, explained.mapping, explained.passed_over)
