"""The load of `stress-publish`: the contents of its messages, and the arithmetic that finds the ones that arrived."""

from sensorsync.loadtest.audit_tally import AuditReport, AuditTally
from sensorsync.loadtest.messages import MAX_PAYLOAD, GeneratedMessages, Run, is_run_id, new_run_id, topics_for_client
from sensorsync.loadtest.recording import BadRecordingLine, Recording
from sensorsync.loadtest.schedule import Schedule

__all__ = [
    "MAX_PAYLOAD",
    "AuditReport",
    "AuditTally",
    "BadRecordingLine",
    "GeneratedMessages",
    "Recording",
    "Run",
    "Schedule",
    "is_run_id",
    "new_run_id",
    "topics_for_client",
]
