"""The registry of the sessions that a broker keeps for us, and the locks that make this instance the only one with its client ids.

A persistent session goes on collecting messages while nobody is connected to it. One that nobody remembers collects for ever, and
what it holds is lost to us. So a session is written down, fsynced, before its SUBSCRIBE, and struck off only after it has ended.

Each process of an instance has a registry (and a lock) of its own; one lock more is for the whole instance, whoever runs it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from sensorsync.config import Settings
from sensorsync.errors import AlreadyRunningError, ConfigurationError

LOCK_RETRY_SECONDS = 0.3
"""How long another instance that looks whether this one runs may be in the way of its start."""


@dataclass(frozen=True, slots=True, order=True)
class SessionOwner:
    """Whose sessions they are, and at which broker."""

    client_id: str
    instance: str
    host: str
    port: int

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The instance that the settings name, at the broker that they name."""
        mqtt = settings.mqtt
        return cls(mqtt.client_id, mqtt.instance, mqtt.host, mqtt.port)


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """What a session is subscribed to: topic filters as sent, `$share/<group>/` included."""

    topic_filters: tuple[str, ...]


class SessionRegistry:
    """The sessions of one instance, in one JSON file that its process has locked. A context manager.

    Raises AlreadyRunningError when another process has it, ConfigurationError when the folder can't be used.
    """

    def __init__(self, folder: Path, name: str, owner: SessionOwner | None = None) -> None:
        self._path = folder / (_safe_file_name(name) + ".json")
        self._name = name
        self._owner = owner
        self._lock_fd: int | None = None
        self._records: dict[str, SessionRecord] = {}

    @classmethod
    def for_process(cls, settings: Settings, process_number: int) -> Self:
        """The registry of one process of the instance that the settings name, at the broker that they name."""
        return cls(
            _sessions_folder(settings),
            _instance_name(settings, f"-{process_number}"),
            SessionOwner.from_settings(settings),
        )

    def open(self) -> None:
        """Take the lock and read the file."""
        try:
            self._lock_fd = _acquire_lock(self._path.with_suffix(".lock"), self._name)
            self._records = self._read()
        except BaseException:
            self._unlock()
            raise

    def close(self) -> None:
        """Give the lock back; a registry that names nothing leaves no file."""
        if self._lock_fd is not None and not self._records:
            self._path.unlink(missing_ok=True)  # the lock's file stays: else two could hold locks on two of them
        self._unlock()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, client_id: str) -> SessionRecord | None:
        """What is known of this client id's session."""
        return self._records.get(client_id)

    def client_ids(self) -> tuple[str, ...]:
        """All sessions that a broker may still hold."""
        return tuple(self._records)

    def save(self, records: Mapping[str, SessionRecord]) -> None:
        """Write sessions down, by client id; on disk when this returns. Raises OSError."""
        changed = {**self._records, **records}
        if changed != self._records:
            self._write(changed)

    def remove(self, client_id: str) -> None:
        """The broker holds this session no more. Raises OSError."""
        if client_id in self._records:
            self._write({k: v for k, v in self._records.items() if k != client_id})

    def _read(self) -> dict[str, SessionRecord]:
        try:
            document = json.loads(self._path.read_bytes())
            return {client: SessionRecord(tuple(patterns)) for client, patterns in document["sessions"].items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigurationError(f"{self._path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"{self._path} is damaged ({error})",
                hint="move it away; sessions that it named stay in the broker until they expire",
            ) from error

    def _write(self, records: dict[str, SessionRecord]) -> None:
        fresh = self._path.with_suffix(".new")
        document = {
            "owner": asdict(self._owner) if self._owner else None,
            "sessions": {client: list(record.topic_filters) for client, record in records.items()},
        }
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # or the rename itself may not survive a crash
        finally:
            os.close(folder)
        self._records = records

    def _unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


@contextmanager
def instance_lock(settings: Settings) -> Iterator[None]:
    """Inside, no other process of this state folder runs as the same instance, however many processes it has.

    Raises AlreadyRunningError when one does, ConfigurationError when the folder can't be used.
    """
    if settings.mqtt.ephemeral:  # leaves no session: nothing to be alone with
        yield
        return
    deadline = time.monotonic() + LOCK_RETRY_SECONDS
    while True:
        try:
            lock = _acquire_lock(_instance_lock_path(settings), _instance_name(settings, ""))
        except AlreadyRunningError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.02)
        else:
            break
    try:
        os.utime(lock)
        yield
    finally:
        os.utime(lock)
        os.close(lock)


def is_instance_running(settings: Settings) -> bool:
    """Whether a process of this state folder runs as the instance that the settings name."""
    try:
        os.close(_acquire_lock(_instance_lock_path(settings), ""))
    except AlreadyRunningError:
        return True
    return False


def last_started_or_stopped(settings: Settings) -> float:
    """When this instance was last started or stopped here, in seconds of Unix time. Being killed leaves no trace."""
    return _instance_lock_path(settings).stat().st_mtime


def registered_session_counts(settings: Settings) -> dict[SessionOwner, int]:
    """How many sessions a broker may still hold for each instance, whoever it is, that ran with this state folder."""
    found: dict[SessionOwner, int] = {}
    for path in _sessions_folder(settings).glob("*.json"):
        try:
            document = json.loads(path.read_bytes())
            owner, count = SessionOwner(**document["owner"]), len(document["sessions"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # just ended, or damaged: then its own instance says so
        found[owner] = found.get(owner, 0) + count
    return found


def registered_process_numbers(settings: Settings) -> list[int]:
    """The numbers of the instance's processes whose sessions the broker may still hold, those that are configured included."""
    mqtt = settings.mqtt
    before, after = _safe_file_name(f"{mqtt.client_id}-{mqtt.instance}-"), _safe_file_name(f"@{mqtt.host}-{mqtt.port}")
    pattern = re.compile(f"{re.escape(before)}([0-9]+){re.escape(after)}[.]json")
    found = (pattern.fullmatch(path.name) for path in _sessions_folder(settings).glob("*.json"))
    return sorted(int(match[1]) for match in found if match)


def _sessions_folder(settings: Settings) -> Path:
    return settings.state_dir / "sessions"


def _instance_lock_path(settings: Settings) -> Path:
    return _sessions_folder(settings) / f"{_safe_file_name(_instance_name(settings, ''))}.instance"


def _instance_name(settings: Settings, process_suffix: str) -> str:
    mqtt = settings.mqtt
    return f"{mqtt.client_id}-{mqtt.instance}{process_suffix}@{mqtt.host}-{mqtt.port}"


def _safe_file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def _acquire_lock(path: Path, name: str) -> int:
    """A file descriptor that holds the lock; children don't inherit it, and it falls when it is closed or we die."""
    try:
        # `parents` would make the state folder readable for everybody, and dead letters lie there, too.
        path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"cannot use the folder {path.parent}: {error.strerror}",
            hint="set state_dir to a folder that this user may write",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise AlreadyRunningError(
            f"another sensorsync runs here as {name}", hint="stop it, or give this one another mqtt.instance"
        ) from None
    return lock
