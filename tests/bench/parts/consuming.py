"""consume, end-to-end, window and durability: how fast messages are stored."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.bench.arena import Arena, Ended, Process, arena
from tests.bench.parts.scale import Say, Scale
from tests.bench.tables import Contestant, Figures, Part, alternate

END_TO_END = 300_000
REFERENCE_END_TO_END = 60_000
BACKLOG = 500_000
WINDOW = 32
REFERENCE_WINDOW = 1_500
"""It takes ten seconds for these."""


@contextmanager
def our_subscriber(place: Arena, messages: int, **changes: str) -> Iterator[Process]:
    """`subscribe` on an empty table until it has stored so many; it is connected."""
    place.new_table()
    with place.sensorsync(
        "subscribe", "--ephemeral", "--max-messages", str(messages), **{"SENSORSYNC_LOG__LEVEL": "INFO", **changes}
    ) as process:
        process.said('"event": "connected"')
        yield process


def our_figures(ended: Ended, messages: int, rows: int = 1) -> Figures:
    """What `subscribe` says of itself: from its first message to its last commit; `rows` are those of each message."""
    data = ended.stopped
    if data["stored"] != messages * rows or data["parked"]:
        raise RuntimeError(f"not all were stored: {data}")
    return Figures(data["rate"] / rows, ended.cpu / messages * 1e6, ended.peak_rss)


def reference_figures(ended: Ended, messages: int) -> Figures:
    """What the reference says of itself: the same."""
    data = ended.last_line
    if data["landed"] < messages:
        raise RuntimeError(f"not all were stored: {data}")
    return Figures(data["rate"], ended.cpu / messages * 1e6, ended.peak_rss)


def ours(place: Arena, messages: int, **changes: str) -> Figures:
    """Our publisher and our subscriber at the same time."""
    with our_subscriber(place, messages, **changes) as subscriber:
        words = ["stress-publish", "--json", "--messages", str(messages), "--processes", "2"]
        with place.sensorsync(*words, **changes) as publisher:
            figures = our_figures(subscriber.end(), messages)
            publisher.end()
    return figures


def reference(place: Arena, messages: int, *words: str, by_ours: bool = False) -> Figures:
    """The reference's subscriber with its publisher, or with ours."""
    with place.reference("subscribe", "--messages", str(messages), "--timeout", "600", *words) as subscriber:
        subscriber.said("ready")
        if by_ours:
            publisher = place.sensorsync("stress-publish", "--json", "--messages", str(messages), "--processes", "2")
        else:
            publisher = place.reference("publish", "--messages", str(messages), "--processes", "4")
        with publisher:
            figures = reference_figures(subscriber.end(), messages)
            publisher.end()
    return figures


def end_to_end(scale: Scale, say: Say) -> Part:
    """Signatures made and verified, every COMMIT flushed."""
    messages, few = scale.messages(END_TO_END), scale.messages(REFERENCE_END_TO_END)
    with arena() as place:
        contestants: dict[str, Contestant] = {
            "sensorsync, HS256 verified": partial(ours, place, messages),
            "the same, one connection": partial(ours, place, messages, SENSORSYNC_MQTT__CONNECTIONS="1"),
            "reference with our publisher": partial(reference, place, few, by_ours=True),
            "reference, nothing verified": partial(reference, place, few),
        }
        rows = alternate(contestants, scale.rounds, say)
    return Part("end-to-end", "end to end: publisher, broker, subscriber, database on the same cores", rows)


def window(scale: Scale, say: Say) -> Part:
    """As on a broker that grants 32: the bound is the number of connections times 32 for each commit and round trip."""
    few = scale.messages(REFERENCE_WINDOW)
    capped = {"SENSORSYNC_MQTT__RECEIVE_MAXIMUM": str(WINDOW)}
    with arena(max_inflight=WINDOW) as narrow, arena() as wide:
        contestants: dict[str, Contestant] = {
            "sensorsync, no bound": partial(ours, wide, scale.messages(END_TO_END)),
            "sensorsync, 32, connections auto": partial(ours, narrow, scale.messages(END_TO_END), **capped),
            "sensorsync, 32, one connection": partial(
                ours, narrow, scale.messages(END_TO_END // 15), SENSORSYNC_MQTT__CONNECTIONS="1", **capped
            ),
            "reference, 32": partial(reference, narrow, few, "--receive-maximum", str(WINDOW)),
        }
        rows = alternate(contestants, scale.rounds, say)
    return Part("window", "a delivery window of 32 messages on every connection", rows)


def consume(scale: Scale, say: Say) -> Part:
    """Both are stopped by a signal while the backlog is published, so that both find all of it in the broker."""
    messages = scale.messages(BACKLOG)
    with arena() as place:
        contestants: dict[str, Contestant] = {
            "sensorsync, HS256 verified": partial(our_backlog, place, messages),
            "reference, nothing verified": partial(_reference_backlog, place, messages),
        }
        rows = alternate(contestants, scale.rounds, say)
    return Part("consume", f"a backlog of {messages:,}", rows)


def durability(scale: Scale, say: Say) -> Part:
    """It measures the disk more than anything."""
    loses = {0: "up to 1 s of commits, with the server", 1: "nothing", 2: "up to 1 s of commits, with the machine"}
    messages = scale.messages(END_TO_END)
    with arena() as place:

        def measured(flush: int) -> Figures:
            with place.database.connect() as connection, connection.cursor() as cursor:
                cursor.execute(f"SET GLOBAL innodb_flush_log_at_trx_commit = {flush}")
            figures = ours(place, messages)
            return Figures(figures.rate, figures.cpu, figures.rss, {"a crash loses": loses[flush]})

        contestants = {f"innodb_flush_log_at_trx_commit = {flush}": partial(measured, flush) for flush in (0, 2, 1)}
        rows = alternate(contestants, scale.rounds, say)
    return Part("durability", "end to end with the three ways to flush", rows)


def our_backlog(place: Arena, messages: int, rows: int = 1, **changes: str) -> Figures:
    """Our subscriber alone, with all messages in the broker when it begins."""
    with our_subscriber(place, messages, **changes) as subscriber:
        _publish_while_stopped(place, subscriber, messages)
        return our_figures(subscriber.end(), messages, rows)


def _reference_backlog(place: Arena, messages: int) -> Figures:
    words = ("--messages", str(messages), "--timeout", "600")
    with place.reference("subscribe", *words) as subscriber:
        subscriber.said("ready")
        _publish_while_stopped(place, subscriber, messages)
        return reference_figures(subscriber.end(), messages)


def _publish_while_stopped(place: Arena, subscriber: Process, messages: int) -> None:
    subscriber.send(signal.SIGSTOP)
    words = ["stress-publish", "--json", "--messages", str(messages), "--processes", "2"]
    with place.sensorsync(*words) as publisher:
        publisher.end()
    subscriber.send(signal.SIGCONT)
