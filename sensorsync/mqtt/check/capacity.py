"""The delivery window: how many messages the broker sends before it wants an acknowledgement, and what that allows."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sensorsync.config import Settings
from sensorsync.mqtt.check.client import ProbeClient
from sensorsync.mqtt.check.report import Concern, Finding, StepFailed
from sensorsync.mqtt.check.traffic import subscribed
from sensorsync.mqtt.check.visit import Visit
from sensorsync.mqtt.client.causes import CAUSES
from sensorsync.mqtt.subscriber.window import LEAST_LINKS, auto_links, demand_of, links_for, receive_maximum

MOST = 1000
"""Messages that are sent at most: brokers queue no more for one session."""
BUDGET = 5.0
"""Seconds after which no more are sent: some plans allow a few messages a second."""
COMMIT = 0.010
"""Seconds of a durable commit, assumed: nobody asks the database here."""
_FIRST = 64


@dataclass(frozen=True, slots=True)
class Window:
    """What was counted."""

    size: int
    at_least: bool
    """Everything that was sent came: it is this or more."""
    stated: int
    """The Receive Maximum that we stated, which is an upper bound."""


async def check_window(visit: Visit) -> Finding:
    """Withhold acknowledgements and count; then reckon. Raises StepFailed."""
    settings = visit.settings
    demand = demand_of(settings.pipeline.workers, settings.pipeline.batch_size)
    fixed = settings.mqtt.connections
    stated = settings.mqtt.receive_maximum or receive_maximum(demand, fixed if isinstance(fixed, int) else 1)
    client = ProbeClient(visit.options("window", receive_maximum=stated), acknowledge=False)
    async with client:
        await subscribed(client, visit.topic)
        window = await _count(visit, client, stated)
    if not window.size:
        raise StepFailed("probes_lost", "nothing was delivered")
    return reckon(window, settings, rtt=visit.rtt, granted=visit.connack.receive_max)


async def _count(visit: Visit, client: ProbeClient, stated: int) -> Window:
    payloads = visit.payloads("window", MOST)
    wanted = set(payloads)
    deadline = time.monotonic() + BUDGET
    sent, chunk = 0, _FIRST

    def arrived() -> int:
        return sum(one.payload in wanted for one in client.arrivals)

    while sent < MOST and time.monotonic() < deadline:
        await visit.publish(payloads[sent : sent + chunk])
        sent = min(MOST, sent + chunk)
        chunk = sent
        seen = -1
        while seen < arrived() < sent:  # until nothing more comes
            seen = arrived()
            await client.until(lambda: arrived() >= sent, 0.25 + 4 * visit.rtt)  # noqa: B023 - it does not outlive the turn
        if arrived() < sent:
            return Window(arrived(), at_least=False, stated=stated)
        if sent >= stated:
            return Window(arrived(), at_least=False, stated=stated)
    return Window(arrived(), at_least=True, stated=stated)


def reckon(window: Window, settings: Settings, *, rtt: float, granted: int) -> Finding:
    """What the window allows with these settings. Raises StepFailed when it does not even hold one batch.

    `granted` is CONNACK's Receive Maximum, by which `mqtt.connections: auto` goes at first; `rtt` is in seconds.
    """
    mqtt, pipeline = settings.mqtt, settings.pipeline
    demand = demand_of(pipeline.workers, pipeline.batch_size)
    size = window.stated if window.at_least else window.size
    links = mqtt.connections
    if links == "auto":
        links = auto_links(min(size, granted), demand, mqtt.max_connections)
    held = min(demand, links * size)
    bound = pipeline.processes * held / (rtt + COMMIT)
    facts = {
        "window": window.size,
        "at_least": window.at_least,
        "receive_maximum": window.stated,
        "connections": links,
        "processes": pipeline.processes,
        "in_flight": held * pipeline.processes,
        "demand": demand * pipeline.processes,
        "batch_size": pipeline.batch_size,
        "round_trip_seconds": round(rtt, 6),
        "assumed_commit_seconds": COMMIT,
        "messages_per_second": round(bound),
    }
    words = f"{window.size:,}{' or more' if window.at_least else ''} unacknowledged messages a connection"
    plural = "s" if links > 1 else ""
    reckoning = (
        f"{links} connection{plural} (mqtt.connections: {mqtt.connections}) hold {held:,} in flight, which alone allows"
        f" {float(f'{bound:.2g}'):,.0f} messages/s (round trip {rtt * 1000:.1f} ms, commit {COMMIT * 1000:.0f} ms assumed)"
    )
    if held < pipeline.batch_size:
        needed = links_for(size, pipeline.batch_size, 65535)
        detail = f"{words}; {reckoning}; a batch of {pipeline.batch_size:,} (pipeline.batch_size) needs {_remedy(settings, needed)}"
        raise StepFailed("window_too_small", detail, **facts)
    concerns: tuple[Concern, ...] = ()
    if held < demand:
        needed = links_for(size, demand, 65535)
        detail = f"{pipeline.workers} workers with two batches of {pipeline.batch_size:,} each need {_remedy(settings, needed)}"
        concerns = (Concern(CAUSES["window_tight"], detail),)
    return Finding(f"{words}; {reckoning}", facts, concerns)


def _remedy(settings: Settings, connections: int) -> str:
    connections = max(connections, LEAST_LINKS)  # fewer would hold the window, but not a burst: see LEAST_LINKS
    key = "mqtt.max_connections" if settings.mqtt.connections == "auto" else "mqtt.connections"
    own = settings.mqtt.receive_maximum
    return f"{key}: {connections}" + (f", or more than mqtt.receive_maximum: {own}" if own else "")
