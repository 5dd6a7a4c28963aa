"""The load of `stress-publish`: what its messages say, and the arithmetic that finds out which of them arrived."""

from sensorsync.loadtest.audit_tally import AuditReport, Tally
from sensorsync.loadtest.messages import MAX_PAYLOAD, Messages, Run, is_run_id, new_run_id, topics_of
from sensorsync.loadtest.pace import Pace
from sensorsync.loadtest.recording import BadLine, Recording

__all__ = [
    "MAX_PAYLOAD",
    "AuditReport",
    "BadLine",
    "Messages",
    "Pace",
    "Recording",
    "Run",
    "Tally",
    "is_run_id",
    "new_run_id",
    "topics_of",
]
