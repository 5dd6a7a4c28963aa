"""SUBSCRIBE, the round trip of a PUBLISH, and shared subscriptions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from math import ceil

from sensorsync.messages.topics import filter_matches
from sensorsync.mqtt.check.client import CheckClient
from sensorsync.mqtt.check.context import FIRST_FAILURE_CODE, CheckContext
from sensorsync.mqtt.check.report import StepFailed, StepOutput, StepProblem
from sensorsync.mqtt.client.causes import CAUSES, cause_of_reason_code

_SHARED_MESSAGES = 10
"""Messages that are sent to a shared subscription of two members."""
_MAX_LOST_IN_A_ROW = 3
"""Number of probes lost in a row, from the first one, after which no more are sent."""
_NO_SUBSCRIBER = 0x10


async def check_subscribe(context: CheckContext) -> tuple[StepOutput, CheckClient]:
    """Subscribe to the topic of the probes, and check that mqtt.topics would be allowed. Raises StepFailed.

    The subscription to mqtt.topics is plain, not shared, and ended at once. It takes no message away from a running subscriber.
    """
    subscriber = await context.exit_stack.enter_async_context(CheckClient(context.options("subscriber")))
    await subscribe_all(subscriber, context.topic)
    topics = context.settings.mqtt.topics
    async with CheckClient(context.options("access", receive_maximum=1), acknowledge=False) as client:
        await subscribe_all(client, *topics)
        if not await subscriber.answers_ping():  # mosquitto before 2.1 disconnects without a reason code
            raise StepFailed("client_id_taken", "one of our connections broke when another one was made")
    warnings: tuple[StepProblem, ...] = ()
    if any(filter_matches(one, context.topic) for one in topics):
        warnings = (StepProblem(CAUSES["topic_is_live"], context.topic),)
    summary = f"allowed with QoS 1: {context.topic}; mqtt.topics: {', '.join(topics)}"
    return StepOutput(summary, {"topic": context.topic, "topics": list(topics)}, warnings), subscriber


async def subscribe_all(client: CheckClient, *topic_filters: str) -> None:
    """Subscribe to all filters with QoS 1. Raises StepFailed."""
    try:
        codes = await client.subscribe(*topic_filters)
    except StepFailed as failed:
        if failed.problem.cause.key in {"not_authorized", "connection_lost"}:
            detail = f"SUBSCRIBE to {', '.join(topic_filters)}: {failed.problem.detail}"
            raise StepFailed("subscribe_denied", detail) from failed
        raise
    for pattern, code in zip(topic_filters, codes, strict=True):
        if code >= FIRST_FAILURE_CODE:
            cause = cause_of_reason_code(code)
            denied = CAUSES["subscribe_denied"] if cause.key == "not_authorized" else cause
            raise StepFailed(denied, f"SUBSCRIBE to {pattern!r}: {cause.description} (0x{code:02X})")
        if code < 1:
            raise StepFailed("subscribe_qos", pattern)


async def check_publish(context: CheckContext, subscriber: CheckClient, probes: int) -> StepOutput:
    """Publish `probes` messages, one after the other, and time each until it returns. Raises StepFailed."""
    await context.publisher()
    trips: list[float] = []
    acks: list[float] = []
    lost = without_subscriber = 0
    for payload in context.make_payloads("probe", probes):
        sent = time.monotonic()
        (code,) = await context.publish([payload])
        acks.append(time.monotonic() - sent)
        without_subscriber += code == _NO_SUBSCRIBER
        arrived = await subscriber.wait_until(partial(_has_arrived, subscriber, payload), context.delivery_timeout)
        at = _arrival_time(subscriber, payload)
        if arrived and at is not None:
            trips.append(at - sent)
        else:
            lost += 1
            if lost == _MAX_LOST_IN_A_ROW and not trips:
                break
    sent_in_all = lost + len(trips)
    context.rtt = _quantiles(acks)["p50"]
    round_trip = _quantiles(trips) if trips else None
    facts = {
        "probes": sent_in_all,
        "lost": lost,
        "round_trip_seconds": round_trip,
        "acknowledged_seconds": _quantiles(acks),
    }
    if lost:
        detail = f"{lost} of {sent_in_all} did not come back in {context.delivery_timeout:g} s"
        if without_subscriber:
            detail += f"; for {without_subscriber} the broker said that nobody is subscribed (0x10)"
        raise StepFailed("probes_lost", detail, **facts)
    times = ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in _quantiles(trips).items())
    summary = f"{sent_in_all} round trips, 0 lost: {times}"
    return StepOutput(summary, facts)


async def check_share(context: CheckContext) -> StepOutput:
    """Check that a shared subscription delivers each message to one of its two members, once. Raises StepFailed."""
    if not context.connack.shared_subscription_available:
        raise StepFailed("share_not_supported", "CONNACK says so")
    pattern = f"$share/{context.settings.mqtt.group}-check-{context.check_id}/{context.topic}"
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(CheckClient(context.options(f"member-{number}"))) for number in range(2)
        ]
        for member in members:
            await subscribe_all(member, pattern)
        payloads = context.make_payloads("shared", _SHARED_MESSAGES)
        await context.publish(payloads)
        wanted = set(payloads)

        def arrived() -> set[bytes]:
            return {one.payload for member in members for one in member.arrivals} & wanted

        deadline = time.monotonic() + context.delivery_timeout
        while len(arrived()) < _SHARED_MESSAGES and time.monotonic() < deadline:
            for member in members:
                await member.wait_until(lambda: len(arrived()) == _SHARED_MESSAGES, 0.02)
        await asyncio.sleep(0.05 + 2 * context.rtt)  # a copy for the other member would have arrived by then
        dealt = [sum(one.payload in wanted for one in member.arrivals) for member in members]
    return _share_output(dealt, len(arrived()))


def _share_output(received_by_member: Sequence[int], arrived: int) -> StepOutput:
    facts = {"sent": _SHARED_MESSAGES, "dealt": list(received_by_member)}
    if arrived < _SHARED_MESSAGES:
        raise StepFailed("share_lost", f"{arrived} of {_SHARED_MESSAGES} arrived", **facts)
    if sum(received_by_member) > _SHARED_MESSAGES:
        raise StepFailed("share_repeated", f"{_SHARED_MESSAGES} messages came {sum(received_by_member)} times", **facts)
    warnings = (
        (StepProblem(CAUSES["share_one_sided"], f"{_SHARED_MESSAGES} of {_SHARED_MESSAGES}"),)
        if 0 in received_by_member
        else ()
    )
    return StepOutput(
        f"{_SHARED_MESSAGES} messages, each to one of two members ({received_by_member[0]} + {received_by_member[1]})",
        facts,
        warnings,
    )


def _has_arrived(client: CheckClient, payload: bytes) -> bool:
    return _arrival_time(client, payload) is not None


def _arrival_time(client: CheckClient, payload: bytes) -> float | None:
    return next((one.received_at for one in client.arrivals if one.payload == payload), None)


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    pick = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[ceil(share * len(ordered)) - 1], 6) for name, share in pick.items()}
