"""What a step of the probe hands back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sensorsync.errors import SensorsyncError
from sensorsync.mqtt.client.causes import CAUSES, Cause


class Step(StrEnum):
    """The steps, in their order."""

    RESOLVE = "resolve"
    TCP = "tcp"
    TLS = "tls"
    CONNECT = "connect"
    LIMITS = "limits"
    SUBSCRIBE = "subscribe"
    PUBLISH = "publish"
    SHARE = "share"
    PERSISTENCE = "persistence"
    WINDOW = "window"

    @property
    def label(self) -> str:
        """For people."""
        return _LABELS[self]


_LABELS = {
    Step.RESOLVE: "Resolve",
    Step.TCP: "TCP",
    Step.TLS: "TLS",
    Step.CONNECT: "CONNECT",
    Step.LIMITS: "Limits",
    Step.SUBSCRIBE: "SUBSCRIBE",
    Step.PUBLISH: "PUBLISH",
    Step.SHARE: "$share",
    Step.PERSISTENCE: "Persistence",
    Step.WINDOW: "Window",
}


class Status(StrEnum):
    """How a step ended."""

    PASSED = "passed"
    WARNED = "warned"
    """Passed, and there is something to be said."""
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Concern:
    """A cause, and how it shows here."""

    cause: Cause
    detail: str = ""

    @property
    def text(self) -> str:
        """Both in one sentence, without a full stop."""
        if not self.detail or self.cause.cause in self.detail:
            return self.detail or self.cause.cause
        return f"{self.cause.cause}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a step that passed found. `facts` are JSON values; durations in seconds, sizes in bytes."""

    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    concerns: tuple[Concern, ...] = ()


class StepFailed(Exception):
    """A step failed, for a cause that the table knows."""

    def __init__(self, cause: Cause | str, detail: str = "", **facts: Any) -> None:
        super().__init__()
        self.concern = Concern(CAUSES[cause] if isinstance(cause, str) else cause, detail)
        self.facts = facts

    @classmethod
    def of(cls, error: SensorsyncError) -> StepFailed:
        """The failure that an error of the connection means."""
        cause = getattr(error, "cause", None)
        return cls(cause if isinstance(cause, Cause) else CAUSES["connection_lost"], str(error))


@dataclass(frozen=True, slots=True)
class StepResult:
    """How one step went."""

    step: Step
    status: Status
    seconds: float
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    failure: Concern | None = None
    """Why it failed."""
    concerns: tuple[Concern, ...] = ()
    """What is to be said though it passed."""
