"""SUBSCRIBE, the round trip of a PUBLISH, and shared subscriptions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from math import ceil

from sensorsync.messages.topics import covers
from sensorsync.mqtt.check.client import ProbeClient
from sensorsync.mqtt.check.report import Concern, Finding, StepFailed
from sensorsync.mqtt.check.visit import FAILURE, Visit
from sensorsync.mqtt.client.causes import CAUSES, cause_of_code

_SHARED = 10
"""Messages to a shared subscription of two."""
_HOPELESS = 3
"""So many probes lost in a row from the first: no more are sent."""
_NO_SUBSCRIBER = 0x10


async def check_subscribe(visit: Visit) -> tuple[Finding, ProbeClient]:
    """Subscribe to the topic of the probes, and see whether mqtt.topics would be allowed. Raises StepFailed.

    The subscription to mqtt.topics is plain, not shared, and gone at once: it takes nothing away from a running subscriber.
    """
    subscriber = await visit.stack.enter_async_context(ProbeClient(visit.options("subscriber")))
    await subscribed(subscriber, visit.topic)
    topics = visit.settings.mqtt.topics
    async with ProbeClient(visit.options("access", receive_maximum=1), acknowledge=False) as client:
        await subscribed(client, *topics)
        if not await subscriber.still_there():  # mosquitto before 2.1 hangs up without a reason code
            raise StepFailed("client_id_taken", "one of our connections broke when another one was made")
    concerns: tuple[Concern, ...] = ()
    if any(covers(one, visit.topic) for one in topics):
        concerns = (Concern(CAUSES["topic_is_live"], visit.topic),)
    summary = f"allowed with QoS 1: {visit.topic}; mqtt.topics: {', '.join(topics)}"
    return Finding(summary, {"topic": visit.topic, "topics": list(topics)}, concerns), subscriber


async def subscribed(client: ProbeClient, *patterns: str) -> None:
    """Subscribe to all of them with QoS 1. Raises StepFailed."""
    try:
        codes = await client.subscribe(*patterns)
    except StepFailed as failed:
        if failed.concern.cause.key in {"not_authorized", "connection_lost"}:
            detail = f"SUBSCRIBE to {', '.join(patterns)}: {failed.concern.detail}"
            raise StepFailed("subscribe_denied", detail) from failed
        raise
    for pattern, code in zip(patterns, codes, strict=True):
        if code >= FAILURE:
            cause = cause_of_code(code)
            denied = CAUSES["subscribe_denied"] if cause.key == "not_authorized" else cause
            raise StepFailed(denied, f"SUBSCRIBE to {pattern!r}: {cause.cause} (0x{code:02X})")
        if code < 1:
            raise StepFailed("subscribe_qos", pattern)


async def check_publish(visit: Visit, subscriber: ProbeClient, probes: int) -> Finding:
    """Publish `probes` messages, one after the other, and time each until it is back. Raises StepFailed."""
    await visit.publisher()
    trips: list[float] = []
    acks: list[float] = []
    lost = unheard = 0
    for payload in visit.payloads("probe", probes):
        sent = time.monotonic()
        (code,) = await visit.publish([payload])
        acks.append(time.monotonic() - sent)
        unheard += code == _NO_SUBSCRIBER
        arrived = await subscriber.until(lambda p=payload: _at(subscriber, p) is not None, visit.patience)  # type: ignore[misc]
        at = _at(subscriber, payload)
        if arrived and at is not None:
            trips.append(at - sent)
        else:
            lost += 1
            if lost == _HOPELESS and not trips:
                break
    sent_in_all = lost + len(trips)
    visit.rtt = _quantiles(acks)["p50"]
    round_trip = _quantiles(trips) if trips else None
    facts = {
        "probes": sent_in_all,
        "lost": lost,
        "round_trip_seconds": round_trip,
        "acknowledged_seconds": _quantiles(acks),
    }
    if lost:
        detail = f"{lost} of {sent_in_all} did not come back in {visit.patience:g} s"
        if unheard:
            detail += f"; for {unheard} the broker said that nobody is subscribed (0x10)"
        raise StepFailed("probes_lost", detail, **facts)
    times = ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in _quantiles(trips).items())
    summary = f"{sent_in_all} round trips, 0 lost: {times}"
    return Finding(summary, facts)


async def check_share(visit: Visit) -> Finding:
    """Two members of one shared subscription: each message to one of them, once. Raises StepFailed."""
    if not visit.connack.shared_subscription_available:
        raise StepFailed("share_not_supported", "CONNACK says so")
    pattern = f"$share/{visit.settings.mqtt.group}-check-{visit.token}/{visit.topic}"
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(ProbeClient(visit.options(f"member-{number}"))) for number in range(2)
        ]
        for member in members:
            await subscribed(member, pattern)
        payloads = visit.payloads("shared", _SHARED)
        await visit.publish(payloads)
        wanted = set(payloads)

        def arrived() -> set[bytes]:
            return {one.payload for member in members for one in member.arrivals} & wanted

        deadline = time.monotonic() + visit.patience
        while len(arrived()) < _SHARED and time.monotonic() < deadline:
            for member in members:
                await member.until(lambda: len(arrived()) == _SHARED, 0.02)
        await asyncio.sleep(0.05 + 2 * visit.rtt)  # a copy for the other member would be here by then
        dealt = [sum(one.payload in wanted for one in member.arrivals) for member in members]
    return _dealt(dealt, len(arrived()))


def _dealt(dealt: Sequence[int], arrived: int) -> Finding:
    facts = {"sent": _SHARED, "dealt": list(dealt)}
    if arrived < _SHARED:
        raise StepFailed("share_lost", f"{arrived} of {_SHARED} arrived", **facts)
    if sum(dealt) > _SHARED:
        raise StepFailed("share_repeated", f"{_SHARED} messages came {sum(dealt)} times", **facts)
    concerns = (Concern(CAUSES["share_one_sided"], f"{_SHARED} of {_SHARED}"),) if 0 in dealt else ()
    return Finding(f"{_SHARED} messages, each to one of two members ({dealt[0]} + {dealt[1]})", facts, concerns)


def _at(client: ProbeClient, payload: bytes) -> float | None:
    return next((one.at for one in client.arrivals if one.payload == payload), None)


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    pick = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[ceil(share * len(ordered)) - 1], 6) for name, share in pick.items()}
