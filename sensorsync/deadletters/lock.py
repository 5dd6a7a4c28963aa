"""The lock of a replay: one at a time takes letters out of a box to store them."""

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
    """Inside, no other replay works on this box. False: `stop` was asked for while we waited for another one.

    Raises AlreadyRunningError when another one does and `wait` is false. The kernel frees the lock when we die.
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
        os.close(lock)  # its file stays: else two could hold locks on two of them


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
