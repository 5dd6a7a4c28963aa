"""Several processes of one instance: started, watched, started again, ended together. No message passes through here."""

from __future__ import annotations

from sensorsync.service.supervisor.handover import Handover, receive
from sensorsync.service.supervisor.supervision import Supervisor, Verdict

__all__ = ["Handover", "Supervisor", "Verdict", "receive"]
