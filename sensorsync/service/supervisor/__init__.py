"""The supervision of several processes of one instance: start, restart and joint stop. No message passes through here."""

from __future__ import annotations

from sensorsync.service.supervisor.process_config import ProcessConfig, receive_config
from sensorsync.service.supervisor.supervision import SupervisionResult, Supervisor

__all__ = ["ProcessConfig", "SupervisionResult", "Supervisor", "receive_config"]
