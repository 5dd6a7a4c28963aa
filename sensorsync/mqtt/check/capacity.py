"""The delivery window: the number of messages that the broker sends without an acknowledgement, and the throughput that it
allows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sensorsync.config import Settings
from sensorsync.mqtt.check.client import CheckClient
from sensorsync.mqtt.check.context import CheckContext
from sensorsync.mqtt.check.report import StepFailed, StepOutput, StepProblem
from sensorsync.mqtt.check.traffic import subscribe_all
from sensorsync.mqtt.client.causes import CAUSES
from sensorsync.mqtt.subscriber.window import (
    LEAST_LINKS,
    auto_links,
    links_required,
    receive_maximum_per_link,
    required_in_flight,
)

MAX_MESSAGES = 1000
"""Messages that are sent at most. Brokers queue no more for one session."""
MAX_SECONDS = 5.0
"""Seconds after which no more messages are sent. Some plans allow a few messages a second."""
ASSUMED_COMMIT_SECONDS = 0.010
"""Assumed seconds of a durable commit. The check does not connect to the database."""
_FIRST_CHUNK = 64


@dataclass(frozen=True, slots=True)
class MeasuredWindow:
    """The window as counted, in messages."""

    size: int
    at_least: bool
    """True when everything that was sent arrived. The window is then this size or larger."""
    receive_maximum: int
    """The Receive Maximum that we stated, which is an upper bound."""


async def check_window(context: CheckContext) -> StepOutput:
    """Withhold acknowledgements, count the messages that arrive, and estimate the throughput. Raises StepFailed."""
    settings = context.settings
    demand = required_in_flight(settings.pipeline.workers, settings.pipeline.batch_size)
    fixed = settings.mqtt.connections
    stated = settings.mqtt.receive_maximum or receive_maximum_per_link(demand, fixed if isinstance(fixed, int) else 1)
    client = CheckClient(context.options("window", receive_maximum=stated), acknowledge=False)
    async with client:
        await subscribe_all(client, context.topic)
        window = await _measure_window(context, client, stated)
    if not window.size:
        raise StepFailed("probes_lost", "nothing was delivered")
    return estimate_throughput(window, settings, rtt=context.rtt, granted_receive_maximum=context.connack.receive_max)


async def _measure_window(context: CheckContext, client: CheckClient, receive_maximum: int) -> MeasuredWindow:
    payloads = context.make_payloads("window", MAX_MESSAGES)
    wanted = set(payloads)
    deadline = time.monotonic() + MAX_SECONDS
    sent, chunk = 0, _FIRST_CHUNK

    def arrived() -> int:
        return sum(one.payload in wanted for one in client.arrivals)

    while sent < MAX_MESSAGES and time.monotonic() < deadline:
        await context.publish(payloads[sent : sent + chunk])
        sent = min(MAX_MESSAGES, sent + chunk)
        chunk = sent
        seen = -1
        while seen < arrived() < sent:  # until no more messages arrive
            seen = arrived()
            await client.wait_until(lambda: arrived() >= sent, 0.25 + 4 * context.rtt)  # noqa: B023 - it does not outlive the turn
        if arrived() < sent:
            return MeasuredWindow(arrived(), at_least=False, receive_maximum=receive_maximum)
        if sent >= receive_maximum:
            return MeasuredWindow(arrived(), at_least=False, receive_maximum=receive_maximum)
    return MeasuredWindow(arrived(), at_least=True, receive_maximum=receive_maximum)


def estimate_throughput(
    window: MeasuredWindow, settings: Settings, *, rtt: float, granted_receive_maximum: int
) -> StepOutput:
    """Return the throughput that the window allows with these settings.

    Raises StepFailed when the window does not even hold one batch. `granted_receive_maximum` is CONNACK's Receive Maximum, which
    `mqtt.connections: auto` uses at first. `rtt` is in seconds.
    """
    mqtt, pipeline = settings.mqtt, settings.pipeline
    demand = required_in_flight(pipeline.workers, pipeline.batch_size)
    size = window.receive_maximum if window.at_least else window.size
    links = mqtt.connections
    if links == "auto":
        links = auto_links(min(size, granted_receive_maximum), demand, mqtt.max_connections)
    held = min(demand, links * size)
    bound = pipeline.processes * held / (rtt + ASSUMED_COMMIT_SECONDS)
    facts = {
        "window": window.size,
        "at_least": window.at_least,
        "receive_maximum": window.receive_maximum,
        "connections": links,
        "processes": pipeline.processes,
        "in_flight": held * pipeline.processes,
        "demand": demand * pipeline.processes,
        "batch_size": pipeline.batch_size,
        "round_trip_seconds": round(rtt, 6),
        "assumed_commit_seconds": ASSUMED_COMMIT_SECONDS,
        "messages_per_second": round(bound),
    }
    words = f"{window.size:,}{' or more' if window.at_least else ''} unacknowledged messages a connection"
    plural = "s" if links > 1 else ""
    estimate = (
        f"{links} connection{plural} (mqtt.connections: {mqtt.connections}) hold {held:,} in flight, which alone allows"
        f" {float(f'{bound:.2g}'):,.0f} messages/s (round trip {rtt * 1000:.1f} ms,"
        f" commit {ASSUMED_COMMIT_SECONDS * 1000:.0f} ms assumed)"
    )
    if held < pipeline.batch_size:
        needed = links_required(size, pipeline.batch_size, 65535)
        detail = f"{words}; {estimate}; a batch of {pipeline.batch_size:,} (pipeline.batch_size) needs {_remedy(settings, needed)}"
        raise StepFailed("window_too_small", detail, **facts)
    warnings: tuple[StepProblem, ...] = ()
    if held < demand:
        needed = links_required(size, demand, 65535)
        detail = f"{pipeline.workers} workers with two batches of {pipeline.batch_size:,} each need {_remedy(settings, needed)}"
        warnings = (StepProblem(CAUSES["window_tight"], detail),)
    return StepOutput(f"{words}; {estimate}", facts, warnings)


def _remedy(settings: Settings, connections: int) -> str:
    connections = max(connections, LEAST_LINKS)  # fewer would hold the window, but not a burst: see LEAST_LINKS
    key = "mqtt.max_connections" if settings.mqtt.connections == "auto" else "mqtt.connections"
    own = settings.mqtt.receive_maximum
    return f"{key}: {connections}" + (f", or more than mqtt.receive_maximum: {own}" if own else "")
