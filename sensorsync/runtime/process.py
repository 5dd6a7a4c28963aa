"""Settings of a process: death of its parent, garbage collector, open files."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
from contextlib import suppress

from sensorsync.errors import ConfigurationError

_PR_SET_PDEATHSIG = 1


def set_parent_death_signal(parent_pid: int, signum: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when the parent (process id `parent`) dies, even by SIGKILL (Linux, prctl(2)).

    Elsewhere it does nothing; a parent then has to end its children itself.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before we asked
        os._exit(1)


GC_THRESHOLD = (200_000, 20, 20)
"""See gc.set_threshold: new objects before a collection of the young, young ones before one of the middle, and so on."""


def tune_gc() -> None:
    """Call once at the end of a start: the collector of cycles then looks at what is new, and seldom.

    By default it runs after every 700 objects and looks at all living messages again and again, tens of thousands under load. None is
    ever part of a cycle, so reference counting alone frees them; looking took a quarter to a half of the time that a message costs.
    It still runs: what does make cycles (exceptions with tracebacks, tasks) is freed later, not never.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)


def raise_fd_limit(count: int) -> None:
    """Let this process have `count` files and sockets open: raise its soft limit as far as the hard one lets us (setrlimit(2)).

    Raises ConfigurationError when that is not enough.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= count:
        return
    if hard != unlimited and hard < count:
        raise ConfigurationError(
            f"{count} open files are needed, and this system allows a process {hard} (ulimit -Hn)",
            hint=f"raise the hard limit: `ulimit -n {count}` as root, or LimitNOFILE= of the systemd unit, or nofile in "
            "/etc/security/limits.conf; or use fewer connections in each process",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
