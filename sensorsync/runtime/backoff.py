"""Delays between attempts."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Delays between attempts, doubling from `minimum` to `maximum` seconds, with random jitter in the upper half of each.

    It neither sleeps nor reads a clock. Jitter keeps many clients from reconnecting at the same moments after an outage.
    """

    def __init__(self, minimum: float, maximum: float, random_unit: Callable[[], float] = random.random) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._random_unit = random_unit
        self._attempts = 0

    def next_delay(self) -> float:
        """Return the seconds to wait before the next attempt."""
        ceiling = min(self._maximum, self._minimum * 2.0 ** min(self._attempts, 32))
        self._attempts += 1
        return ceiling * (0.5 + 0.5 * self._random_unit())

    def reset(self) -> None:
        """Start at `minimum` again, after an attempt that succeeded."""
        self._attempts = 0
