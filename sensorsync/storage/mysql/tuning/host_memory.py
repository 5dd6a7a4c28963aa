"""The memory that is available to the server."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

_CGROUP_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def is_local_host(hostname: str | None) -> bool:
    """Return True when a server with this @@hostname runs on this machine.

    A server in a container has another hostname, and its memory limit may not be visible here.
    """
    return hostname is not None and hostname.lower() == socket.gethostname().lower()


def total_memory(limits: tuple[Path, ...] = _CGROUP_LIMITS) -> int:
    """Return the bytes of memory of this machine, or of the container of this process (cgroups(7), versions 2 and 1)."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in limits:
        try:
            text = limit.read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            size = min(size, int(text))
    return size
