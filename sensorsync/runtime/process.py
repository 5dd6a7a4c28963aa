"""Settings of a process: the parent-death signal, the garbage collector and the limit of open files."""

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
    """Make the kernel send `signum` to this process when its parent (`parent_pid`) dies, even by SIGKILL (Linux, prctl(2)).

    On other systems it does nothing. There a parent has to end its children itself.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent_pid:  # the parent died before the call
        os._exit(1)


GC_THRESHOLD = (200_000, 20, 20)
"""The thresholds of the three generations; see gc.set_threshold.

The first is the number of new objects before a collection of the youngest generation. The second is the number of such collections
before one of the middle generation, and so on.
"""


def tune_gc() -> None:
    """Make the garbage collector run seldom, and only over new objects. Call this once, at the end of the start.

    By default it runs after every 700 new objects and traverses all messages in memory again and again, tens of thousands under load.
    No message is part of a cycle, so reference counting alone frees them. The traversal took a quarter to a half of the time that a
    message costs. The collector still runs, so that objects in cycles (exceptions with tracebacks, tasks) are freed later.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)


def raise_fd_limit(count: int) -> None:
    """Raise the soft limit of open files and sockets to `count`, as far as the hard limit allows (setrlimit(2)).

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
