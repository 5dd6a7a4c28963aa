"""A launcher: it becomes another program, which the kernel kills when its parent process dies.

The usage is `python parent_death.py PARENT PROGRAM ARGUMENT...`. prctl(2): PR_SET_PDEATHSIG outlives execve(2), so it
works for any program, including a broker or a database. The signal belongs to the thread that started us, which must
live as long as its process. This file runs on its own and imports nothing of the package, so that it costs a few
milliseconds. Where there is no prctl, the program runs without the signal.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, argv: list[str]) -> None:
    """Become the program `argv`. It never returns, and exits with 127 when there is no such program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the signal was set
            os._exit(1)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - a program with arguments, no shell
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        os._exit(127)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
