"""Messages that a publishing client is given to send."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Burst(NamedTuple):
    """Messages that may leave now."""

    payloads: list[bytes]
    latency_starts: Iterable[float]
    """For each, Unix time in seconds from which its latency counts; may be endless."""
