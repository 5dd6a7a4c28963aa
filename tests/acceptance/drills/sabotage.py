"""Run sensorsync, and let its first writer thread die of an exception that nobody foresees, wherever it is, at SIGUSR1."""

from __future__ import annotations

import ctypes
import signal
import threading

from sensorsync.__main__ import main


class Injected(BaseException):
    """No Exception: nothing in the writer is meant to survive it."""


def kill_writer(*_: object) -> None:
    writer = next(thread for thread in threading.enumerate() if thread.name == "writer-0")
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(writer.ident or 0), ctypes.py_object(Injected))


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, kill_writer)
    main()
