"""The schedule of a run's messages. In an open loop each has its own time, whatever the broker does.

A closed loop that waits for a slow answer sends less meanwhile. It omits exactly the messages that would have waited.
Gil Tene named this "coordinated omission" ("How NOT to Measure Latency", Strange Loop 2015). The remedy, as in his
wrk2, is a schedule: the latency of each message counts from the time when it was due.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt


@dataclass(slots=True)
class Schedule:
    """The schedule of all clients of a run together. It reads no clock; times are Unix times in seconds.

    With a `rate`, message i of the run is due at start + i / rate, and is message i // clients of client i % clients.
    The clients take turns, also those of different processes, so the whole load is uniform. During the first `ramp`
    seconds the rate grows linearly from 0. Without a `rate` the loop is closed, and the clients begin one by one within
    `ramp` seconds.
    """

    clients: int
    rate: float | None = None
    """Messages per second, of all clients together."""
    ramp: float = 0.0
    """Length of the ramp in seconds."""
    start: float | None = None
    """Start of the run; None before it. A message that is requested before the start (by a probe) is due at once."""

    @property
    def is_open_loop(self) -> bool:
        """True when each message has a time of its own."""
        return self.rate is not None and self.start is not None

    def due_at(self, client: int, seq: int) -> float:
        """Return the time when message `seq` of `client` is due."""
        if self.start is None:
            return 0.0
        if self.rate is None:
            return self.start + self.ramp * client / self.clients
        return self.start + _seconds_until(seq * self.clients + client, self.rate, self.ramp)


def _seconds_until(index: int, rate: float, ramp: float) -> float:
    """Return the seconds from the start to message `index`.

    After t seconds of the ramp, rate * t^2 / (2 * ramp) messages are due.
    """
    if index < rate * ramp / 2:
        return sqrt(2 * ramp * index / rate)
    return ramp / 2 + index / rate
