"""The undo file: what the variables were before tune-db set them, one file per server, on disk before the first SET."""

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
"""Seconds by which two readings of one start may differ: the uptime is in whole seconds."""


@dataclass(frozen=True, slots=True)
class UndoEntry:
    """One variable that tune-db has set. `before` is its value at the first time, however often it was set since."""

    before: str
    after: str
    persisted: bool = False
    """SET PERSIST was used: a restart does not undo it."""
    persisted_before: str | None = None
    """The value that was persisted already; None when there was none."""


@dataclass(frozen=True, slots=True)
class UndoState:
    """All that is to be taken back on one server."""

    identity: ServerIdentity
    started: float
    """When the server had started that was tuned (Unix time by its own clock)."""
    entries: Mapping[str, UndoEntry] = field(default_factory=dict)

    def was_restarted(self, started: float) -> bool:
        """Whether a server that started then is another run than the one that was tuned: SET GLOBAL ended with that."""
        return abs(started - self.started) > _START_TIME_TOLERANCE

    def still_effective(self, started: float) -> UndoState:
        """What of it still holds on a run of the server that started then."""
        if not self.was_restarted(started):
            return self
        return replace(self, started=started, entries={n: e for n, e in self.entries.items() if e.persisted})


class UndoFile:
    """Where the undo of one server lies: `state_dir/tune-db/`, readable for this user alone."""

    def __init__(self, state_dir: Path, identity: ServerIdentity) -> None:
        self._identity = identity
        digest = hashlib.sha256("\0".join(asdict(identity).values()).encode()).hexdigest()[:12]
        self.path = (
            state_dir / "tune-db" / f"{re.sub(r'[^A-Za-z0-9.-]', '_', identity.hostname)}-{identity.port}-{digest}.json"
        )

    def read(self) -> UndoState | None:
        """None when there is no such file. ConfigurationError when it cannot be read, or is another server's."""
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
        """Replace it, all or nothing, on disk when this returns; without entries the file goes. ConfigurationError when it can't."""
        document: dict[str, Any] = {
            "server": asdict(undo.identity),
            "started": undo.started,
            "variables": {name: asdict(entry) for name, entry in undo.entries.items()},
        }
        fresh = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if undo.entries:
                fresh.unlink(missing_ok=True)  # what is left of a crash could have another mode
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
        """The undo files of other servers."""
        return sorted(path for path in self.path.parent.glob("*.json") if path != self.path)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)  # or the rename itself may not survive a crash
    finally:
        os.close(handle)
