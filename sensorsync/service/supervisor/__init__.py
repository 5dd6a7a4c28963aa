"""Several processes of one instance: started, watched, started again, ended together. No message passes through here."""

from __future__ import annotations

from sensorsync.service.supervisor.process_config import ProcessConfig, receive_config
from sensorsync.service.supervisor.supervision import SupervisionResult, Supervisor

__all__ = ["ProcessConfig", "SupervisionResult", "Supervisor", "receive_config"]
