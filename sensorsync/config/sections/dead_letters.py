"""The section `dead_letters`: the box for messages that can never be stored."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from sensorsync.config.sections.fields import (
    FilePath,
    PositiveInt,
    Section,
    setting,
)
from sensorsync.config.sections.units import Duration, Size


class DeadLetterSettings(Section):
    """`dead_letters`: the box for messages that can never be stored."""

    path: FilePath | None = setting(
        None,
        doc="The box's SQLite file, on a local disk.",
        example="/var/lib/sensorsync/dead-letters.sqlite",
        default_text="dead-letters.sqlite in state_dir",
    )
    max_size: Annotated[Size, Field(ge=2**20)] = setting(
        2**30, doc="Largest size of the file.", example="1GiB", unit="size"
    )
    max_attempts: PositiveInt = setting(
        8,
        doc="Replays that a letter is given; when the last of them refuses it, it is quarantined, and left alone until released.",
        example=8,
        unit="replays",
    )
    backoff_min: Annotated[Duration, Field(gt=0)] = setting(
        300.0,
        doc="How long a letter that a replay refused is left alone; twice as long after each further attempt.",
        example="5m",
        unit="duration",
    )
    backoff_max: Annotated[Duration, Field(gt=0)] = setting(
        86400.0, doc="Longest time that a letter is left alone between two replays.", example="1d", unit="duration"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.backoff_min > self.backoff_max:
            raise ValueError("dead_letters.backoff_min must not be above dead_letters.backoff_max")
        return self
