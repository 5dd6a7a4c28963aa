"""The configuration that a supervisor passes to a child process: the settings and secrets, as one line on its standard input.

Neither the command line nor the environment is safe for secrets: other users can read the first, and children inherit the second.
Also, a process that is restarted after a week must get the same settings as its siblings, even if the configuration file was changed.
The pipe stays open. Where the kernel does not signal the death of the parent, the process detects it by the end of the pipe.
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
    """The configuration of one child process of an instance. `until_idle` is in seconds."""

    settings: Settings
    parent_pid: int
    """The supervisor's process id."""
    until_idle: float | None = None

    def to_json_line(self) -> bytes:
        """Return the line that `receive_config` reads."""
        settings = self.settings.model_dump()
        for section in (settings["mqtt"], settings["database"]):
            section["password_file"] = None  # the password itself is included
        document = {"settings": settings, "parent": self.parent_pid, "until_idle": self.until_idle}
        return json.dumps(document, default=_json_default).encode() + b"\n"


def receive_config(stream: BinaryIO) -> ProcessConfig:
    """Read the configuration from `stream`. From then on this process ends when its parent ends.

    Raises UsageError when the line is not a configuration, because a supervisor did not start this process.
    """
    try:
        config = parse_config(stream.readline())
    except (ValueError, KeyError, TypeError):
        # `from None`, because pydantic's error and the line contain secrets.
        raise UsageError(
            "--process is for the processes that `subscribe --processes` starts, not for people."
        ) from None
    # SIGKILL, because a graceful end could take as long as the database does, and a restarted supervisor would find the locks taken.
    # The broker sends unacknowledged messages again.
    set_parent_death_signal(config.parent_pid, signal.SIGKILL)
    threading.Thread(target=_exit_when_closed, args=(stream.fileno(),), name="lifeline", daemon=True).start()
    return config


def parse_config(line: bytes) -> ProcessConfig:
    """Return the configuration from `ProcessConfig.to_json_line`. Raises ValueError, KeyError or TypeError for any other line."""
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
