"""The load of `stress-publish`: what its messages say, and the arithmetic that finds out which of them arrived."""

from sensorsync.workload.audit import AuditReport, Tally
from sensorsync.workload.messages import Messages, Run, is_run_id, new_run_id
from sensorsync.workload.recording import BadLine, Recording

__all__ = ["AuditReport", "BadLine", "Messages", "Recording", "Run", "Tally", "is_run_id", "new_run_id"]
