"""How many unacknowledged messages a broker sends on one connection, and how many connections that calls for. Pure."""

from __future__ import annotations

from math import ceil

REPEATS_REQUIRED = 8
"""Stops at one count in a row, each refilled at once, before it is believed to be the window."""
MIN_WINDOW = 4
"""Smaller counts are what a slow stream looks like."""
LEAST_LINKS = 16
"""Links of `mqtt.connections: auto`, however wide the window is.

Each session has a queue of its own in the broker, and EMQX kills a session that holds too much, with all that it holds, unless
`force_shutdown { max_mailbox_size = 100000, max_heap_size = 512MB }` is set. Without that, and with `mqtt.max_inflight` 1000, a burst
of 60,000 lost four fifths and more with 4 links, more than half with 8, and nothing with 16, 32 or 64.
"""


def required_in_flight(workers: int, batch_size: int) -> int:
    """Messages that may be in memory at once: a batch in each writer's hands and one ahead."""
    return 2 * workers * batch_size


def receive_maximum_per_link(demand: int, links: int) -> int:
    """The Receive Maximum that each of `links` connections states, so that all of them together carry `demand`."""
    return min(65535, max(1, ceil(demand / links)))


def links_required(window: int, demand: int, max_links: int) -> int:
    """Connections that `demand` messages in flight need when each carries `window`; 1 to `most`."""
    return max(1, min(max_links, ceil(demand / max(1, window))))


def auto_links(window: int, demand: int, most: int) -> int:
    """Connections of `mqtt.connections: auto`: what `links_required` says, and at least LEAST_LINKS where `most` allows it.

    A broker that is known to hold any number of messages in one session could do with fewer, and would be told apart here. None is
    known: nothing in CONNACK says so. A Receive Maximum of 65535 is about what a client may send; it says nothing about a queue.
    """
    return max(min(LEAST_LINKS, most), links_required(window, demand, most))


class WindowEstimate:
    """The delivery window of the links of one source.

    CONNACK's Receive Maximum is the first estimate: formally it is the publisher's window, but on EMQX both are `mqtt.max_inflight`
    (by default 32).
    mosquitto states none and still holds back (20 by default). So the estimate is lowered by what is seen: a link that stops at
    one count again and again, and gets as many more as soon as it acknowledges, stands at its window. A small count alone says
    nothing: an idle link has one, too.
    """

    def __init__(self, initial: int) -> None:
        self.window = initial
        self._stops_by_link: dict[int, tuple[int, int]] = {}
        """Link -> (count at which it stood when it acknowledged, how many times in a row)."""

    def record_ack(self, link: int, *, in_flight: int, refilled_at_once: bool) -> bool:
        """A link acknowledged when `in_flight` messages stood open on it.

        `refilled`: they had come at once after the acknowledgements before. Returns True if the estimate went down.
        """
        count, repeats = self._stops_by_link.get(link, (0, 0))
        if not refilled_at_once or in_flight != count:
            self._stops_by_link[link] = (in_flight, 1 if refilled_at_once else 0)
            return False
        self._stops_by_link[link] = (count, repeats + 1)
        if repeats + 1 < REPEATS_REQUIRED or not MIN_WINDOW <= count < self.window:
            return False
        self.window = count
        self._stops_by_link.clear()
        return True
