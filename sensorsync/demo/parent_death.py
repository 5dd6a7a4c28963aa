"""`python tether.py PARENT PROGRAM ARGUMENT...`: become PROGRAM, and be killed by the kernel when the process PARENT dies.

prctl(2): PR_SET_PDEATHSIG outlives execve(2), so any program can be tethered, a broker or a database as well. It is tied to the thread
that started us, which must be one that lives as long as its process. Run as a file on its own: nothing of the package is imported, so
that it costs a few milliseconds. Where there is no prctl, the program runs without the tether.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, argv: list[str]) -> None:
    """Never returns: it becomes `words`, or ends with 127 when there is no such program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the tether held
            os._exit(1)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - a program with arguments, no shell
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        os._exit(127)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
