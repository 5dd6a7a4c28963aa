"""The undo file: the values of the variables before tune-db set them. Each server has one file, on disk before the first SET."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from sensorsync.errors import ConfigurationError
from sensorsync.storage.mysql.tuning.server import ServerIdentity

_START_TIME_TOLERANCE: Final = 2.5
"""Seconds by which two measurements of the same start time may differ, because the uptime is in whole seconds."""


@dataclass(frozen=True, slots=True)
class UndoEntry:
    """One variable that tune-db has set. `before` is its value before the first time, even if it was set again since."""

    before: str
    after: str
    persisted: bool = False
    """True when SET PERSIST was used. A restart does not undo it."""
    persisted_before: str | None = None
    """The value that was persisted before, or None when there was none."""


@dataclass(frozen=True, slots=True)
class UndoState:
    """All changes on one server that can be undone."""

    identity: ServerIdentity
    started: float
    """The start time of the server at the time of the changes (Unix time by its own clock)."""
    entries: Mapping[str, UndoEntry] = field(default_factory=dict)

    def was_restarted(self, started: float) -> bool:
        """Return True when a server with this start time was restarted since the changes. A restart ends the effect of SET GLOBAL."""
        return abs(started - self.started) > _START_TIME_TOLERANCE

    def still_effective(self, started: float) -> UndoState:
        """Return the changes that are still effective on a server with this start time."""
        if not self.was_restarted(started):
            return self
        return replace(self, started=started, entries={n: e for n, e in self.entries.items() if e.persisted})


class UndoFile:
    """The undo file of one server in `state_dir/tune-db/`. Only this user can read it."""

    def __init__(self, state_dir: Path, identity: ServerIdentity) -> None:
        self._identity = identity
        digest = hashlib.sha256("\0".join(asdict(identity).values()).encode()).hexdigest()[:12]
        self.path = (
            state_dir / "tune-db" / f"{re.sub(r'[^A-Za-z0-9.-]', '_', identity.hostname)}-{identity.port}-{digest}.json"
        )

    def read(self) -> UndoState | None:
        """Return the state in the file, or None when the file does not exist.

        Raises ConfigurationError when it cannot be read, or belongs to another server.
        """
        try:
            document = json.loads(self.path.read_bytes())
            undo = UndoState(
                ServerIdentity(**document["server"]),
                float(document["started"]),
                {name: UndoEntry(**entry) for name, entry in document["variables"].items()},
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"{self.path} is damaged ({error})", hint="move it away; what it names has to be set back by hand"
            ) from error
        if undo.identity != self._identity:
            raise ConfigurationError(f"{self.path} belongs to another server ({undo.identity})", hint="move it away")
        return undo

    def write(self, undo: UndoState) -> None:
        """Replace the file atomically, and return when it is on disk. Without entries the file is deleted.

        Raises ConfigurationError when it cannot be written.
        """
        document: dict[str, Any] = {
            "server": asdict(undo.identity),
            "started": undo.started,
            "variables": {name: asdict(entry) for name, entry in undo.entries.items()},
        }
        fresh = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if undo.entries:
                fresh.unlink(missing_ok=True)  # a file that is left from a crash could have another mode
                with os.fdopen(
                    os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
                ) as file:
                    json.dump(document, file, indent=1)
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(self.path)
            else:
                self.path.unlink(missing_ok=True)
            _sync(self.path.parent)
        except OSError as error:
            raise ConfigurationError(
                f"cannot write the undo file {self.path}: {error.strerror}",
                hint="set state_dir to a folder that this user may write",
            ) from error

    def other_files(self) -> list[Path]:
        """Return the undo files of other servers."""
        return sorted(path for path in self.path.parent.glob("*.json") if path != self.path)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)  # otherwise the rename may not survive a crash
    finally:
        os.close(handle)
