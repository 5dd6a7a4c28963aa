"""Rules about memory, and about the redo log, whose size depends on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sensorsync.storage.mysql.tuning.tuning_input import Advice, Profile, TuningInput

MIB: Final = 2**20
GIB: Final = 2**30
_REDO_LIMITS: Final = (512 * MIB, 8 * GIB)
_REDO_STEP: Final = 512 * MIB
_REDO_SINCE: Final = (8, 0, 30)
"""The first version with innodb_redo_log_capacity.

MySQL 8.0.30: it supersedes innodb_log_file_size * innodb_log_files_in_group, and can be set any time.
"""
_MARIADB_REDO_DYNAMIC_SINCE: Final = (10, 9, 0)


def buffer_pool_size(tuning_input: TuningInput) -> Advice | None:
    """Advise half of the memory. The other half is for the system, for connections, and for other programs on the machine."""
    name = "innodb_buffer_pool_size"
    now, memory = tuning_input.int_variable(name), tuning_input.memory
    if now is None or memory is None or tuning_input.product.service or tuning_input.is_on("innodb_dedicated_server"):
        return None
    target = memory // 2
    if tuning_input.profile is Profile.THROUGHPUT:
        # Changes that are not synced yet need memory.
        target = max(target, min(2 * GIB, memory * 3 // 4))
    target = _round_to_chunks(
        tuning_input, min(target, tuning_input.int_variable("innodb_buffer_pool_size_max") or target)
    )
    if now > memory * 85 // 100:
        why = "more than 85 % of the memory: the machine would swap, or kill the server"
        return Advice(name, str(now), str(target), why, "other databases on this server have less cache", dynamic=True)
    why = "holds the page that each device and metric is writing to, so that an upsert reads nothing from disk"
    risk = "the machine has that much less memory for everything else"
    return Advice(name, str(now), str(max(now, target)), why, risk, dynamic=True)


def _round_to_chunks(tuning_input: TuningInput, size: int) -> int:
    """Round a size to whole chunks of each instance as the server does, so that the server uses exactly the advised value."""
    chunk = tuning_input.int_variable("innodb_buffer_pool_chunk_size") or MIB
    unit = chunk * (tuning_input.int_variable("innodb_buffer_pool_instances") or 1)
    for step in (GIB, 128 * MIB, unit, MIB):
        if size >= 2 * step and step % unit == 0:
            return size // step * step
    return unit


def log_buffer_size(tuning_input: TuningInput) -> Advice | None:
    """Advise a log buffer that a transaction fits into. The variable is dynamic on MySQL 8.0, but not on MariaDB."""
    name = "innodb_log_buffer_size"
    now = tuning_input.int_variable(name)
    if now is None or tuning_input.product.has_custom_storage:
        return None
    target = 128 * MIB if tuning_input.profile is Profile.THROUGHPUT else 64 * MIB
    why = "a transaction of some thousand rows fits, so that nothing is written before its COMMIT"
    if tuning_input.profile is Profile.THROUGHPUT:
        why = "holds what COMMIT does not write: about a second of rows"
    return Advice(name, str(now), str(max(now, target)), why, "", dynamic=not tuning_input.product.mariadb)


def redo_log(tuning_input: TuningInput) -> Advice | None:
    """Advise half of the advised buffer pool, within limits."""
    product = tuning_input.product
    if product.has_custom_storage or tuning_input.is_on("innodb_dedicated_server"):
        return None
    pool = buffer_pool_size(tuning_input)
    size = int(pool.advised) if pool else tuning_input.int_variable("innodb_buffer_pool_size")
    low, high = _REDO_LIMITS
    if tuning_input.profile is Profile.THROUGHPUT:
        low *= 2
    target = min(max((size or 0) // 2, low), high) // _REDO_STEP * _REDO_STEP
    if (now := tuning_input.int_variable("innodb_redo_log_capacity")) is not None and product.version >= _REDO_SINCE:
        return _redo_log_advice("innodb_redo_log_capacity", now, target, dynamic=True)
    if (now := tuning_input.int_variable("innodb_log_file_size")) is None:
        return None
    files = tuning_input.int_variable("innodb_log_files_in_group") or 1  # MariaDB 10.5: one file
    dynamic = product.mariadb and product.version >= _MARIADB_REDO_DYNAMIC_SINCE
    return _redo_log_advice("innodb_log_file_size", now, target // files, dynamic=dynamic)


def _redo_log_advice(name: str, now: int, target: int, *, dynamic: bool) -> Advice:
    why = "bulk upserts fill a small redo log in seconds; then all writers wait while pages are flushed"
    risk = "takes that much disk space; recovery after a crash takes longer"
    return Advice(name, str(now), str(max(now, target)), why, risk, dynamic=dynamic)


RULES: Final[tuple[Callable[[TuningInput], Advice | None], ...]] = (buffer_pool_size, log_buffer_size, redo_log)
