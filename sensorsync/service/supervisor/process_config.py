"""What a supervisor hands to a process that it starts: the settings, secrets included, as one line on its standard input.

Neither the command line nor the environment is a place for secrets: other users can read the one, and children inherit the other. And
a process that is started again after a week must get the settings of its siblings, whatever the configuration file says by then.
The pipe stays open: its end tells the process that its parent is gone, where the kernel does not.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import SecretStr

from sensorsync.config import Settings
from sensorsync.errors import UsageError
from sensorsync.runtime.process import set_parent_death_signal


@dataclass(frozen=True, slots=True)
class ProcessConfig:
    """All that one process of an instance needs to know. `until_idle` in seconds."""

    settings: Settings
    parent_pid: int
    """The supervisor's process id."""
    until_idle: float | None = None

    def to_json_line(self) -> bytes:
        """The line that `receive` reads."""
        settings = self.settings.model_dump()
        for section in (settings["mqtt"], settings["database"]):
            section["password_file"] = None  # the password goes along itself
        document = {"settings": settings, "parent": self.parent_pid, "until_idle": self.until_idle}
        return json.dumps(document, default=_json_default).encode() + b"\n"


def receive_config(stream: BinaryIO) -> ProcessConfig:
    """Read the handover; from then on this process does not outlive its parent.

    Raises UsageError when nobody hands over anything.
    """
    try:
        handover = parse_config(stream.readline())
    except (ValueError, KeyError, TypeError):
        # No cause: pydantic's error and the line hold secrets.
        raise UsageError(
            "--process is for the processes that `subscribe --processes` starts, not for people."
        ) from None
    # SIGKILL: a softer end could take as long as the database does, and a supervisor that is started again finds its locks taken.
    # What is unacknowledged, the broker sends again.
    set_parent_death_signal(handover.parent_pid, signal.SIGKILL)
    threading.Thread(target=_exit_when_closed, args=(stream.fileno(),), name="lifeline", daemon=True).start()
    return handover


def parse_config(line: bytes) -> ProcessConfig:
    """What `Handover.line` made a line of. Raises ValueError, KeyError or TypeError when it is none."""
    document = json.loads(line)
    return ProcessConfig(Settings.model_validate(document["settings"]), int(document["parent"]), document["until_idle"])


def _exit_when_closed(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os._exit(1)


def _json_default(value: object) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(type(value).__name__)
