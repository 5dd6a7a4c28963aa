"""A dry run of one message: its rows or rejections, and the choice of its mapping. Nothing is stored."""

from __future__ import annotations

from dataclasses import dataclass

from sensorsync.config import Settings
from sensorsync.messages.mapping.explaining import PassedOver, explain_choice
from sensorsync.pipeline.contract import Delivery, FanOut, Rejected, Row
from sensorsync.wiring import envelope, mappings, message_decoder


@dataclass(frozen=True, slots=True)
class DryRunResult:
    """The result of one message."""

    decoded: Row | FanOut | Rejected
    mapping: str | None = None
    """Name of the mapping that was used. None: the message is a plain reading, or it was rejected before that choice.
    """
    passed_over: tuple[PassedOver, ...] = ()


class DryRun:
    """The dry run of messages with these settings and the decoder of `subscribe`.

    Raises ConfigurationError for keys that cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._decode = message_decoder(settings)
        self._verify_and_decrypt = envelope(settings.security).verify_and_decrypt
        self._mappings = mappings(settings)
        self.mapping_names = [mapping.name for mapping in settings.mappings]
        """The names of the configured mappings, in their order."""

    def run(self, delivery: Delivery) -> DryRunResult:
        """Decode one message and explain the choice of its mapping."""
        if delivery.packet_error is not None:
            return DryRunResult(Rejected("mqtt", delivery.packet_error))
        decoded = self._decode(delivery)
        opened = self._verify_and_decrypt(delivery.payload)
        if isinstance(opened, Rejected):
            return DryRunResult(decoded)
        explained = explain_choice(self._mappings, opened, delivery.topic)
        return DryRunResult(decoded, explained.mapping, explained.passed_over)
