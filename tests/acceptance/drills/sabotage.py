"""Run sensorsync, and let one of its writer threads die at SIGUSR1 of an exception that nobody foresees.

It dies at the worst moment: its rows are committed, and nobody has been told yet.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

from sensorsync.__main__ import main
from sensorsync.pipeline.contract import Row
from sensorsync.storage.mysql.sink import MySqlSink

armed = False
commit = MySqlSink.write


class Injected(BaseException):
    """No Exception: nothing in the writer is meant to survive it."""


def arm(*_: object) -> None:
    global armed  # noqa: PLW0603 - one process, one sabotage
    armed = True


def write(sink: MySqlSink, rows: Sequence[Row]) -> int:
    new = commit(sink, rows)
    if armed:
        raise Injected
    return new


if __name__ == "__main__":
    MySqlSink.write = write  # type: ignore[method-assign,assignment]
    signal.signal(signal.SIGUSR1, arm)
    main()
