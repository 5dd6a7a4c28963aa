"""Results of the steps of `check-cloud`."""

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
        """The name of the step for output."""
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


class StepStatus(StrEnum):
    """Status of a step after it ended."""

    PASSED = "passed"
    WARNED = "warned"
    """Passed, with a warning."""
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class StepProblem:
    """A cause, and the details with which it occurs here."""

    cause: Cause
    detail: str = ""

    @property
    def text(self) -> str:
        """The cause and its detail in one sentence, without a full stop."""
        if not self.detail or self.cause.description in self.detail:
            return self.detail or self.cause.description
        return f"{self.cause.description}: {self.detail}"


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Result of a step that passed. `facts` are JSON values; durations are in seconds, sizes in bytes."""

    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[StepProblem, ...] = ()


class StepFailed(Exception):
    """Failure of a step, for a cause that the table contains."""

    def __init__(self, cause: Cause | str, detail: str = "", **facts: Any) -> None:
        super().__init__()
        self.problem = StepProblem(CAUSES[cause] if isinstance(cause, str) else cause, detail)
        self.facts = facts

    @classmethod
    def from_error(cls, error: SensorsyncError) -> StepFailed:
        """Return the failure for an error of the connection."""
        cause = getattr(error, "cause", None)
        return cls(cause if isinstance(cause, Cause) else CAUSES["connection_lost"], str(error))


@dataclass(frozen=True, slots=True)
class StepResult:
    """Result of one step."""

    step: Step
    status: StepStatus
    seconds: float
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    failure: StepProblem | None = None
    """The reason of a failure."""
    warnings: tuple[StepProblem, ...] = ()
    """Problems of a step that passed nevertheless."""
