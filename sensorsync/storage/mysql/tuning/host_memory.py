"""How much memory the server can have."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

_CGROUP_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def is_local_host(hostname: str | None) -> bool:
    """Whether a server with this @@hostname runs here. One in a container has another name, and maybe a limit that we can't see."""
    return hostname is not None and hostname.lower() == socket.gethostname().lower()


def total_memory(limits: tuple[Path, ...] = _CGROUP_LIMITS) -> int:
    """Bytes of memory of this machine, or of the container that we are in (cgroups(7), versions 2 and 1)."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in limits:
        try:
            text = limit.read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            size = min(size, int(text))
    return size
