"""The lock of a replay. Only one replay at a time removes letters from a box to store them."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from sensorsync.errors import AlreadyRunningError, DeadLetterBoxError
from sensorsync.runtime.shutdown import GracefulShutdown

_POLL: Final = 0.1


@asynccontextmanager
async def replay_lock(box: Path, stop: GracefulShutdown, *, wait: bool) -> AsyncIterator[bool]:
    """Hold the lock of the box for the duration of the block, so that no other replay runs on it.

    Yields False when `stop` was requested while waiting for another replay. Raises AlreadyRunningError when another
    replay holds the lock and `wait` is false. The kernel releases the lock when this process dies.
    """
    path = box.with_name(f"{box.name}.replay-lock")
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DeadLetterBoxError(f"Cannot lock the dead-letter box by {path}: {error.strerror}.") from error
    try:
        while not (taken := _try_lock(lock)) and wait and not stop.requested:
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL):
                    await stop.wait()
        if not taken and not wait:
            raise AlreadyRunningError(
                f"another replay of the dead-letter box {box} is running",
                hint="let it finish, or wait for it by --wait",
            )
        yield taken
    finally:
        os.close(lock)  # the file stays, because two replays could otherwise lock two different files


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
