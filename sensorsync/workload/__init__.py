"""The load of `stress-publish`: what its messages say, and the arithmetic that finds out which of them arrived."""

from sensorsync.workload.audit import AuditReport, Tally
from sensorsync.workload.histogram import LatencyHistogram
from sensorsync.workload.messages import MAX_PAYLOAD, Messages, Run, is_run_id, new_run_id, topics_of
from sensorsync.workload.pace import Burst, Pace
from sensorsync.workload.recording import BadLine, Recording

__all__ = [
    "MAX_PAYLOAD",
    "AuditReport",
    "BadLine",
    "Burst",
    "LatencyHistogram",
    "Messages",
    "Pace",
    "Recording",
    "Run",
    "Tally",
    "is_run_id",
    "new_run_id",
    "topics_of",
]
