"""Batcher: when a batch leaves, and with what. Pure: it owns no clock, timer or thread; time is an argument.

A batch leaves as soon as somebody can write it and nothing more is at hand. Size and time-out are ceilings, not a pace: a broker
sends no more than its window until we acknowledge, so a batch that waits for company it can't get only wastes the window
(32 messages / 200 ms = 160 messages/s).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sensorsync.pipeline.contract import Delivery, FlushReason


@dataclass(frozen=True, slots=True)
class Batch:
    """Deliveries that are written in one transaction."""

    deliveries: Sequence[Delivery]
    reason: FlushReason
    arrivals: Sequence[tuple[int, float]] = ()
    """(how many of them came together, when), in order: seconds on the clock of `Batcher.add`."""


class Batcher:
    """Collects deliveries in order of arrival. `size` in messages, `timeout` in seconds."""

    def __init__(self, size: int, timeout: float) -> None:
        self._size = size
        self._timeout = timeout
        self._pending: list[Delivery] = []
        self._arrivals: deque[tuple[int, float]] = deque()
        """(how many came together, when), oldest first; what is left of the first when a part of it left."""

    def __len__(self) -> int:
        return len(self._pending)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self._pending)

    def add(self, deliveries: Sequence[Delivery], now: float) -> None:
        """Take over deliveries that arrived at `now` (seconds, monotonic)."""
        if deliveries:
            self._pending.extend(deliveries)
            self._arrivals.append((len(deliveries), now))

    @property
    def oldest_arrival(self) -> float | None:
        """When the one that has waited longest came; None when there is none."""
        return self._arrivals[0][1] if self._arrivals else None

    def due_in(self, now: float) -> float | None:
        """Seconds until the oldest delivery will have waited for the time-out (0 if it has); None when there is none."""
        return max(0.0, self._arrivals[0][1] + self._timeout - now) if self._arrivals else None

    def take(self, now: float, *, writer_free: bool, input_drained: bool, stopping: bool = False) -> Batch | None:
        """The next batch, if one is due.

        `writer_free`: a writer would start on it at once. `drained`: nothing more is known to wait in the sockets.
        A FULL batch leaves in any case, so don't ask when it could not be taken.
        """
        if not self._pending:
            return None
        if len(self._pending) >= self._size:
            return self._pop_batch(FlushReason.FULL)
        if stopping:
            return self._pop_batch(FlushReason.DRAIN)
        if writer_free and input_drained:
            return self._pop_batch(FlushReason.STALLED)
        if writer_free and self.due_in(now) == 0.0:
            return self._pop_batch(FlushReason.LINGER)
        return None

    def _pop_batch(self, reason: FlushReason) -> Batch:
        deliveries = self._pending[: self._size]
        del self._pending[: self._size]
        arrivals: list[tuple[int, float]] = []
        left = len(deliveries)
        while left:
            count, when = self._arrivals.popleft()
            if count > left:
                self._arrivals.appendleft((count - left, when))
                count = left
            arrivals.append((count, when))
            left -= count
        return Batch(deliveries, reason, arrivals)
