"""The section `reading`: the rules that turn a payload into a reading."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sensorsync.config.sections.fields import Section, setting

TopicLevel = Annotated[int, Field(ge=0, le=127)]


class ReadingSettings(Section):
    """`reading`: how a payload becomes a reading. The key of a reading must come out the same when it is delivered again."""

    missing_ts: Literal["park", "epoch", "arrival"] = setting(
        "park",
        doc="A reading without `ts`: `park` it, store it at the `epoch` (1970), or at its `arrival` (redelivered: two rows).",
        example="park",
    )
    missing_id: Literal["park", "payload"] = setting(
        "park",
        doc="A reading without `event_id`: `park` it, or derive the id from topic and `payload` (identical messages become one row).",
        example="park",
    )
    device_id_level: TopicLevel | None = setting(
        None,
        doc="Level of the topic, counted from 0, that is the `device_id`.",
        example=2,
        default_text="taken from the payload",
    )
    metric_level: TopicLevel | None = setting(
        None,
        doc="Level of the topic, counted from 0, that is the `metric`.",
        example=3,
        default_text="taken from the payload",
    )
