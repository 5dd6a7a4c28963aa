"""The section `pipeline`: from delivery to commit."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from sensorsync.config.sections.fields import (
    PositiveInt,
    Section,
    setting,
)
from sensorsync.config.sections.units import Duration, Size


class PipelineSettings(Section):
    """`pipeline`: from delivery to commit."""

    processes: Annotated[int, Field(ge=1, le=64)] = setting(
        1,
        doc="Processes of `subscribe`, each with its own connections, workers and memory: one can use no more than one core.",
        example=2,
    )
    workers: Annotated[int, Field(ge=1, le=256)] = setting(
        2, doc="Writer threads (of each process), each with one database connection.", example=2
    )
    batch_size: Annotated[int, Field(ge=1, le=50_000)] = setting(
        1000, doc="Messages in one transaction at most.", example=1000, unit="messages", env=["WORKER_BATCH_SIZE"]
    )
    batch_timeout: Annotated[Duration, Field(gt=0, le=60)] = setting(
        0.2, doc="Longest wait of a message for its batch to fill.", example="200ms", unit="duration"
    )
    queue_bytes: Annotated[Size, Field(ge=65536)] = setting(
        64 * 2**20,
        doc="Bytes of payloads and topics that may wait in memory before reading from the broker pauses.",
        example="64MiB",
        unit="size",
    )
    queue_limit: PositiveInt = setting(
        10_000,
        doc="Messages that may wait in memory before reading from the broker pauses; the delivery window is a bound below it.",
        example=10_000,
        unit="messages",
    )
    stop_timeout: Annotated[Duration, Field(gt=0)] = setting(
        20.0, doc="Time for the writers to finish after the first SIGTERM or Ctrl-C.", example="20s", unit="duration"
    )
    backoff_min: Annotated[Duration, Field(gt=0)] = setting(
        0.1, doc="First wait before writing a batch again.", example="100ms", unit="duration"
    )
    backoff_max: Annotated[Duration, Field(gt=0)] = setting(
        10.0, doc="Longest wait before writing a batch again.", example="10s", unit="duration"
    )
    status_interval: Annotated[Duration, Field(gt=0)] = setting(
        10.0, doc="Time between two [STATUS] lines.", example="10s", unit="duration"
    )
    status_every: PositiveInt = setting(
        10_000, doc="Stored rows between two [STATUS] lines.", example=10_000, unit="rows"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.backoff_min > self.backoff_max:
            raise ValueError("pipeline.backoff_min must not be above pipeline.backoff_max")
        return self
