"""The steps of `check-cloud`, from the host's name to the throughput that the broker's delivery window allows."""

from __future__ import annotations

from sensorsync.mqtt.check.probe import CheckOptions, StepCallback, check_broker
from sensorsync.mqtt.check.report import Step, StepProblem, StepResult, StepStatus

__all__ = ["CheckOptions", "Step", "StepCallback", "StepProblem", "StepResult", "StepStatus", "check_broker"]
