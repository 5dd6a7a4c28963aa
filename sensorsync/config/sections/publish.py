"""The section `publish`: the load test."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sensorsync.config.sections.fields import (
    Port,
    PositiveInt,
    Section,
    setting,
)
from sensorsync.config.sections.units import Duration, Size
from sensorsync.messages.topics import TopicName


class PublishSettings(Section):
    """`publish`: the load that `stress-publish` makes."""

    messages: PositiveInt = setting(
        10_000, doc="Messages to publish in all.", example=10_000, unit="messages", env=["TOTAL_MESSAGES"]
    )
    processes: Annotated[int, Field(ge=1, le=256)] = setting(
        2, doc="Processes that publish.", example=2, env=["CONCURRENCY"]
    )
    clients: Annotated[int, Field(ge=1, le=10_000)] = setting(8, doc="Client connections of each process.", example=8)
    topic: TopicName = setting(
        "sensors/live/stress_test", doc="Topic to publish to.", example="sensors/live/stress_test"
    )
    topics: PositiveInt | None = setting(
        None,
        doc="Publish to so many topics in turn: a level 0, 1, 2, ... is put after `publish.topic`.",
        example=100,
        default_text="publish.topic itself",
    )
    devices: PositiveInt | None = setting(
        None,
        doc="Devices (`device_id`) that all clients play together.",
        example=1000,
        default_text="one for each client",
    )
    rate: Annotated[float, Field(gt=0)] | None = setting(
        None,
        doc="Messages per second in all, sent when they are due whatever the broker does (open loop); latency counts from then.",
        example=2000,
        unit="messages/s",
        default_text="as fast as the windows allow (closed loop)",
    )
    ramp: Duration = setting(
        0,
        doc="Time in which the rate grows from 0 to `publish.rate`; without a rate, the time over which the clients begin.",
        example="30s",
        unit="duration",
    )
    payload_size: Size = setting(
        0, doc="Pad readings to so many bytes at least, before they are signed.", example="1KiB", unit="bytes"
    )
    window: Port = setting(
        1000,
        doc="Unacknowledged messages on one connection; the broker's Receive Maximum is an upper bound to it.",
        example=1000,
        unit="messages",
    )
