"""The number of unacknowledged messages that a broker sends on one connection, and the number of connections that this requires.

This module does no I/O.
"""

from __future__ import annotations

from math import ceil

REPEATS_REQUIRED = 8
"""Number of stops at one count in a row, each refilled at once, after which the count is taken for the window."""
MIN_WINDOW = 4
"""Smallest count that is taken for a window. A slow stream shows smaller counts."""
LEAST_LINKS = 16
"""Minimum number of links with `mqtt.connections: auto`, however wide the window is.

Each session has its own queue in the broker. EMQX kills a session that holds too much, with all its messages, unless
`force_shutdown { max_mailbox_size = 100000, max_heap_size = 512MB }` is set. Without that, and with `mqtt.max_inflight` 1000, a
burst of 60,000 messages lost four fifths and more with 4 links, more than half with 8, and nothing with 16, 32 or 64.
"""


def required_in_flight(workers: int, batch_size: int) -> int:
    """Return the number of messages that may be in memory at once: for each writer one batch in work and one ahead."""
    return 2 * workers * batch_size


def receive_maximum_per_link(demand: int, links: int) -> int:
    """Return the Receive Maximum that each of `links` connections states, so that all of them together carry `demand` messages."""
    return min(65535, max(1, ceil(demand / links)))


def links_required(window: int, demand: int, max_links: int) -> int:
    """Return the number of connections, from 1 to `max_links`, for `demand` messages in flight when each connection carries
    `window`.
    """
    return max(1, min(max_links, ceil(demand / max(1, window))))


def auto_links(window: int, demand: int, most: int) -> int:
    """Return the number of connections for `mqtt.connections: auto`.

    This is the result of `links_required`, and at least LEAST_LINKS where `most` allows it. A broker that is known to hold any
    number of messages in one session would need fewer connections, and would be distinguished here. No such broker is known,
    because CONNACK does not state it. A Receive Maximum of 65535 concerns the number of messages that a client may send, and not
    the size of a queue.
    """
    return max(min(LEAST_LINKS, most), links_required(window, demand, most))


class WindowEstimate:
    """The delivery window of the links of one source.

    CONNACK's Receive Maximum is the first estimate. Formally it is the publisher's window, but on EMQX both are
    `mqtt.max_inflight` (by default 32). mosquitto states none and still holds back (20 by default). Therefore observation lowers
    the estimate: a link has reached its window when it stops at one count again and again, and gets the same number of messages
    again as soon as it acknowledges. A small count alone proves nothing, because an idle link has one, too.
    """

    def __init__(self, initial: int) -> None:
        self.window = initial
        self._stops_by_link: dict[int, tuple[int, int]] = {}
        """Link -> (count of unacknowledged messages when it acknowledged, number of times in a row)."""

    def record_ack(self, link: int, *, in_flight: int, refilled_at_once: bool) -> bool:
        """Record that a link acknowledged while `in_flight` messages were unacknowledged on it. Return True if the estimate went
        down.

        `refilled_at_once`: these messages had arrived at once after the previous acknowledgements.
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
