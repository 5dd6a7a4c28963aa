"""When the messages of a run are due: in an open loop at times of their own, whatever the broker does.

A closed loop that waits for a slow answer sends less meanwhile, and so leaves out the very messages that would have waited. Gil Tene
named this "coordinated omission" ("How NOT to Measure Latency", Strange Loop 2015). The cure, as in his wrk2: a schedule,
and the latency of each counts from when it was due.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt


@dataclass(slots=True)
class Schedule:
    """The schedule of all clients of a run together. Pure: it reads no clock; times are Unix times in seconds.

    With a `rate`, message i of the run is due at start + i / rate, and is message i // clients of client i % clients: the
    clients take turns, also those of different processes, so the whole is uniform. During the first `ramp` seconds the rate
    grows in a straight line from 0. Without a `rate` the loop is closed, and the clients begin one by one within `ramp` seconds.
    """

    clients: int
    rate: float | None = None
    """Messages per second, of all clients together."""
    ramp: float = 0.0
    """Seconds."""
    start: float | None = None
    """None: not yet begun; whoever asks for a message then (a probe) gets it at once."""

    @property
    def is_open_loop(self) -> bool:
        """Whether each message has a time of its own."""
        return self.rate is not None and self.start is not None

    def due_at(self, client: int, seq: int) -> float:
        """When message `seq` of `client` is due."""
        if self.start is None:
            return 0.0
        if self.rate is None:
            return self.start + self.ramp * client / self.clients
        return self.start + _seconds_until(seq * self.clients + client, self.rate, self.ramp)


def _seconds_until(index: int, rate: float, ramp: float) -> float:
    """From the start to message `index`: after t seconds of the ramp, rate * t^2 / (2 * ramp) messages are due."""
    if index < rate * ramp / 2:
        return sqrt(2 * ramp * index / rate)
    return ramp / 2 + index / rate
