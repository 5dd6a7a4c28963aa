"""Messages that are handed to a publishing client."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Burst(NamedTuple):
    """Messages that may be sent now."""

    payloads: list[bytes]
    latency_starts: Iterable[float]
    """For each message, the Unix time in seconds from which its latency counts. The iterable may be endless."""
