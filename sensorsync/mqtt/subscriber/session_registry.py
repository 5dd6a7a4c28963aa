"""The registry of our sessions at a broker, and the locks that allow only one instance with the same client ids.

A persistent session goes on collecting messages while no client is connected to it. A session that is not recorded collects for
ever, and its messages are lost to us. Therefore a session is recorded, fsynced, before its SUBSCRIBE, and removed only after it
has ended.

An instance is its client ids. The host in the names of files is a spelling of the broker: `localhost` and `127.0.0.1` are one
broker, which allows one client for each client id. Two brokers differ in the addresses of their names.

Each process of an instance has its own registry and lock. One more lock is for the whole instance, whichever process holds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Self

from sensorsync.config import Settings
from sensorsync.errors import AlreadyRunningError, ConfigurationError

LOCK_RETRY_SECONDS = 0.3
"""Longest time in seconds for which another instance's check, whether this one is running, may delay our start."""


@dataclass(frozen=True, slots=True, order=True)
class SessionOwner:
    """The instance that owns sessions, and the broker that holds them."""

    client_id: str
    instance: str
    host: str
    port: int

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the instance and the broker that the settings name."""
        mqtt = settings.mqtt
        return cls(mqtt.client_id, mqtt.instance, mqtt.host, mqtt.port)


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """The subscriptions of a session: topic filters as sent, `$share/<group>/` included."""

    topic_filters: tuple[str, ...]


class SessionRegistry:
    """The sessions of one process of an instance, in one JSON file that the process has locked. A context manager.

    Raises AlreadyRunningError when another process has locked it, ConfigurationError when the folder cannot be used.
    """

    def __init__(self, folder: Path, name: str, owner: SessionOwner | None = None) -> None:
        self._path = folder / (_safe_file_name(name) + ".json")
        self._name = name
        self._owner = owner
        self._lock_fd: int | None = None
        self._records: dict[str, SessionRecord] = {}

    @classmethod
    def for_process(cls, settings: Settings, process_number: int) -> Self:
        """Return the registry of one process of the instance that the settings name, at the broker that they name."""
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
        """Release the lock. A registry without sessions leaves no file."""
        if self._lock_fd is not None and not self._records:
            self._path.unlink(missing_ok=True)  # the lock file stays: otherwise two processes could lock two of them
        self._unlock()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, client_id: str) -> SessionRecord | None:
        """Return the record of this client id's session, or None."""
        return self._records.get(client_id)

    def client_ids(self) -> tuple[str, ...]:
        """Return the client ids of all sessions that a broker may still hold."""
        return tuple(self._records)

    def save(self, records: Mapping[str, SessionRecord]) -> None:
        """Record sessions by client id. They are on disk when this returns. Raises OSError."""
        changed = {**self._records, **records}
        if changed != self._records:
            self._write(changed)

    def remove(self, client_id: str) -> None:
        """Remove a session that the broker no longer holds. Raises OSError."""
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
            os.fsync(folder)  # otherwise the rename may not survive a crash
        finally:
            os.close(folder)
        self._records = records

    def _unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


@contextmanager
def instance_lock(settings: Settings) -> Iterator[None]:
    """Ensure that no other process of this state folder runs as the same instance while the block runs.

    One lock covers all processes of the instance. Raises AlreadyRunningError when another process does, ConfigurationError when
    the folder cannot be used.
    """
    if settings.mqtt.ephemeral:  # it leaves no session, so it needs no lock
        yield
        return
    deadline = time.monotonic() + LOCK_RETRY_SECONDS
    while True:
        try:
            lock = _acquire_instance_lock(settings)
        except AlreadyRunningError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.02)
        else:
            break
    try:
        _take_over_other_spellings(settings)
        os.utime(lock)
        yield
    finally:
        os.utime(lock)
        os.close(lock)


def _acquire_instance_lock(settings: Settings) -> int:
    lock = _acquire_lock(_instance_lock_path(settings), _instance_name(settings, ""))
    try:
        with suppress(OSError):  # on a full disk the name of the file has to do
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{settings.mqtt.host}-{settings.mqtt.port}\n".encode(), 0)
        _refuse_other_spellings(settings)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _refuse_other_spellings(settings: Settings) -> None:
    for name in _running_spellings(settings, certain=True):
        raise AlreadyRunningError(
            f"another sensorsync runs here as {name}, which is the same broker",
            hint="stop it, or give this one another mqtt.instance",
        )


def is_instance_running(settings: Settings) -> bool:
    """Return True when a process of this state folder runs with the client ids that the settings name, at the broker that they name.

    Another spelling of the host counts, and so does a host whose addresses are unknown.
    """
    return _is_locked(_instance_lock_path(settings)) or bool(_running_spellings(settings, certain=False))


def is_same_broker(one: tuple[str, int], other: tuple[str, int]) -> bool | None:
    """Return True when two hosts and ports are one broker, False when their hosts differ, None when nothing proves either.

    Two ports of one host may be two brokers, or one with and without TLS.
    """
    if one == other:
        return True
    try:
        same_host = one[0] == other[0] or not _addresses(one[0]).isdisjoint(_addresses(other[0]))
    except (OSError, UnicodeError):
        return None
    return (one[1] == other[1] or None) if same_host else False


def _addresses(host: str) -> set[str]:
    name = host.strip("[]").removesuffix(".")
    return {_one_spelling(str(found[4][0])) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}


def _one_spelling(address: str) -> str:
    """Return an address without its zone, as IPv4 where it is mapped. The loopback addresses of both families are one machine."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or (IPv4Address("127.0.0.1") if ip.is_loopback else ip)
    return str(ip)


def _is_locked(path: Path) -> bool:
    try:
        os.close(_acquire_lock(path, ""))
    except AlreadyRunningError:
        return True
    return False


def _running_spellings(settings: Settings, *, certain: bool) -> list[str]:
    """Return the names of the locks that processes with our client ids hold under another spelling of our broker.

    `certain`: without those whose host has unknown addresses.
    """
    mqtt, ours = settings.mqtt, _instance_lock_path(settings)
    before = _safe_file_name(f"{mqtt.client_id}-{mqtt.instance}@")
    found = []
    for path in sorted(ours.parent.glob(f"{before}*.instance")):
        host, _, port = (_broker_in_lock(path) or path.stem.removeprefix(before)).rpartition("-")
        if path == ours or not port.isdecimal():
            continue
        try:
            locked = _is_locked(path)
        except ConfigurationError:  # the lock belongs to another user
            if not certain:
                raise
            continue
        if not locked:
            continue
        same = is_same_broker((host, int(port)), (mqtt.host, mqtt.port))
        if same or (same is None and not certain):
            found.append(path.stem)
    return found


def _broker_in_lock(path: Path) -> str:
    """Return the host and the port that the lock's last holder wrote into it, or an empty text for a lock of an earlier version.

    The file's name does not have all characters of an IPv6 address.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _take_over_other_spellings(settings: Settings) -> None:
    """Move the sessions that were recorded under another spelling of our broker into our registries.

    They are ours, because they have our client ids. Without this, those that are no longer configured would collect messages.
    """
    us = SessionOwner.from_settings(settings)
    for owner in registered_session_counts(settings):
        if (owner.client_id, owner.instance) != (us.client_id, us.instance) or owner == us:
            continue
        if not is_same_broker((owner.host, owner.port), (us.host, us.port)):
            continue
        mqtt = settings.mqtt.model_copy(update={"host": owner.host, "port": owner.port})
        former = settings.model_copy(update={"mqtt": mqtt})
        for number in registered_process_numbers(former):
            with suppress(AlreadyRunningError):  # a process that is dying: the next start moves its sessions
                _move_sessions(
                    SessionRegistry.for_process(former, number), SessionRegistry.for_process(settings, number)
                )


def _move_sessions(source: SessionRegistry, target: SessionRegistry) -> None:
    with source, target:
        records = {client_id: source.get(client_id) for client_id in source.client_ids()}
        target.save({client: record for client, record in records.items() if record and not target.get(client)})
        for client_id in records:
            source.remove(client_id)


def last_started_or_stopped(settings: Settings) -> float:
    """Return the Unix time in seconds at which this instance was last started or stopped here. A kill leaves no trace."""
    return _instance_lock_path(settings).stat().st_mtime


def registered_session_counts(settings: Settings) -> dict[SessionOwner, int]:
    """Return the number of sessions that a broker may still hold for each instance that ran with this state folder."""
    found: dict[SessionOwner, int] = {}
    for path in _sessions_folder(settings).glob("*.json"):
        try:
            document = json.loads(path.read_bytes())
            owner, count = SessionOwner(**document["owner"]), len(document["sessions"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # just ended, or damaged: its own instance reports that
        found[owner] = found.get(owner, 0) + count
    return found


def registered_process_numbers(settings: Settings) -> list[int]:
    """Return the numbers of the instance's processes whose sessions the broker may still hold, configured processes included."""
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
    """Return a file descriptor that holds the lock.

    Child processes do not inherit it. The lock is released when the descriptor is closed or this process dies.
    """
    try:
        # `parents` would make the state folder readable for all users, and it holds dead letters, too.
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
