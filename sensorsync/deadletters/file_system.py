"""The type of the file system of a file, and warnings about letters that must survive a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_MOUNTS: Final = Path("/proc/self/mountinfo")
_IN_MEMORY: Final = "is in memory: its letters are gone after a restart of the machine"
_VOLATILE_WARNINGS: Final = {
    "tmpfs": _IN_MEMORY,
    "ramfs": _IN_MEMORY,
    "overlay": "is in a container's own layer: its letters are gone with the container; mount a volume",
}
_NETWORK: Final = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "ceph",
    "gluster",
    "fuse.gluster",
    "fuse.sshfs",
    "afs",
    "lustre",
    "vboxsf",
)


def file_system_type(path: Path, mounts: str | None = None) -> str:
    """Return the type of the file system of `path` (`ext4`, `tmpfs`, ...), or "" where it is not known.

    `mounts`: the text of /proc/self/mountinfo (proc_pid_mountinfo(5)), by default this process's.
    """
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text(errors="surrogateescape")
        except OSError:
            return ""
    place = path.resolve()
    best, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        mounted = Path(before.split(" ")[4].replace(r"\040", " "))
        # Of two mounts at the same path, the later one hides the earlier one.
        if place.is_relative_to(mounted) and len(mounted.parts) >= best:
            best, kind = len(mounted.parts), after.split(" ")[0]
    return kind


def file_system_warnings(path: Path, kind: str) -> list[str]:
    """Return a sentence for each reason why letters in `path` may be less safe than on a local disk."""
    if kind in _VOLATILE_WARNINGS:
        return [f"the dead-letter box {path} {_VOLATILE_WARNINGS[kind]}"]
    if kind.startswith(_NETWORK):
        trouble = f"the dead-letter box {path} is on a network file system ({kind}), where SQLite's write-ahead log is not reliable"
        return [f"{trouble}; name a file on a local disk in dead_letters.path"]
    return []
