"""The steps of `check-cloud`: from a host's name to the throughput that the broker's delivery window allows."""

from __future__ import annotations

from sensorsync.mqtt.check.probe import Options, Show, probe
from sensorsync.mqtt.check.report import Concern, Status, Step, StepResult

__all__ = ["Concern", "Options", "Show", "Status", "Step", "StepResult", "probe"]
