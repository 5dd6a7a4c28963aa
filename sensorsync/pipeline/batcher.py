"""The batcher, which decides when a batch is due and which deliveries it has. It owns no clock, timer or thread: time is an argument.

A batch is due as soon as a writer is free and the input is drained. Size and time-out are upper limits, not a pace. A broker sends
no more messages than its delivery window until they are acknowledged. A batch that waits for messages which cannot come only wastes
that window (32 messages / 200 ms = 160 messages/s).
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
    """(number of deliveries that arrived together, time of arrival), in order. Times are seconds on the clock of `Batcher.add`."""


class Batcher:
    """A collector of deliveries in arrival order. `size` is in messages, `timeout` in seconds."""

    def __init__(self, size: int, timeout: float) -> None:
        self._size = size
        self._timeout = timeout
        self._pending: list[Delivery] = []
        self._arrivals: deque[tuple[int, float]] = deque()
        """(number of pending deliveries that arrived together, time of arrival), oldest first. A batch may take a part of a group."""

    def __len__(self) -> int:
        return len(self._pending)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self._pending)

    def add(self, deliveries: Sequence[Delivery], now: float) -> None:
        """Add deliveries that arrived at `now` (seconds, monotonic)."""
        if deliveries:
            self._pending.extend(deliveries)
            self._arrivals.append((len(deliveries), now))

    @property
    def oldest_arrival(self) -> float | None:
        """The time of arrival of the delivery that has waited longest; None when there is none."""
        return self._arrivals[0][1] if self._arrivals else None

    def due_in(self, now: float) -> float | None:
        """Return the seconds until the oldest delivery reaches the time-out, 0 if it has; None when there is no delivery."""
        return max(0.0, self._arrivals[0][1] + self._timeout - now) if self._arrivals else None

    def take(self, now: float, *, writer_free: bool, input_drained: bool, stopping: bool = False) -> Batch | None:
        """Return the next batch if one is due, None otherwise.

        `writer_free` means that a writer would start on it at once. `input_drained` means that no more data is known to wait in the
        sockets. A FULL batch is due in any case, so do not call this while the writers have no room for it.
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
