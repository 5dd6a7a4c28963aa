"""Watch: looks at what lies outside of us, and may hang doing so, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Final, Self

from sensorsync.service.metrics.definitions import Values

PATIENCE: Final = 5.0
"""Seconds that a look may take."""
_SHARE: Final = 20
"""What takes long (counting a million letters) is done less often: a twentieth of the time at most."""


class Watch:
    """Calls `look` every `interval` seconds; what it raises is the problem. A context manager: the thread ends with it.

    `look` returns values for the board; while it takes longer than `patience` seconds, that is the problem. `close` ends what it has
    opened, in the same thread.
    """

    def __init__(
        self,
        check: str,
        look: Callable[[], Values],
        *,
        interval: float,
        patience: float = PATIENCE,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.check = check
        self.values: Values = {}
        self._look = look
        self._close = close
        self._interval = interval
        self._patience = patience
        self._problem: str | None = "not looked at yet"
        self._began: float | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{check}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(1.0)  # one that hangs is left behind: it is a daemon

    def problem(self) -> str | None:
        """What is wrong, None when nothing is. Any thread may ask."""
        began = self._began
        if began is not None and (waited := monotonic() - began) > self._patience:
            return f"no answer for {waited:.0f}s"
        return self._problem

    def _run(self) -> None:
        while not self._end.is_set():
            self._began = began = monotonic()
            pause = self._interval
            try:
                self.values = self._look()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what the check has to tell
                self._problem = str(error) or type(error).__name__
            else:
                self._problem = None
                pause = max(pause, _SHARE * (monotonic() - began))
            self._began = None
            self._end.wait(pause)
        self._close()
