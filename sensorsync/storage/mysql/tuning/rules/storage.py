"""Rules about writing pages to disk, and about caches that cost more than they save."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sensorsync.storage.mysql.tuning.tuning_input import Advice, TuningInput

_IO_CAPACITY: Final = 2000
_BUFFERED: Final = frozenset({"", "FSYNC", "LITTLESYNC", "NOSYNC"})
_NO_O_DIRECT_RISK: Final = "some network file systems cannot do it"
_SLOW_DISK_RISK: Final = "too much for a spinning disk and for a slow network disk"


def flush_method(tuning_input: TuningInput) -> Advice | None:
    """Advise O_DIRECT, the default since MySQL 8.4 and MariaDB 10.6. MariaDB 11.0 has innodb_data_file_buffering instead."""
    name = "innodb_flush_method"
    now = tuning_input.variables.get(name)
    product = tuning_input.product
    if now is None or product.service or (product.mariadb and product.version >= (11, 0, 0)):
        return None
    why = "pages are in the buffer pool; a second copy in the system's cache only costs memory"
    buffered = now.upper() in _BUFFERED
    return Advice(name, now, "O_DIRECT" if buffered else now, why, _NO_O_DIRECT_RISK, dynamic=False)


def data_file_buffering(tuning_input: TuningInput) -> Advice | None:
    """Advise OFF on MariaDB 11.0 and later."""
    name = "innodb_data_file_buffering"
    now = tuning_input.variables.get(name)
    if now is None or tuning_input.product.service:
        return None
    why = "pages are in the buffer pool; a second copy in the system's cache only costs memory"
    return Advice(name, now, "OFF", why, _NO_O_DIRECT_RISK, dynamic=True)


def io_capacity_max(tuning_input: TuningInput) -> Advice | None:
    """Advise the limit of innodb_io_capacity, which is therefore set first."""
    name = "innodb_io_capacity_max"
    now = tuning_input.int_variable(name)
    if now is None or tuning_input.product.has_custom_storage:
        return None
    why = "how fast pages may be flushed when the redo log gets full (pages/s)"
    return Advice(name, str(now), str(max(now, 2 * _IO_CAPACITY)), why, _SLOW_DISK_RISK, dynamic=True)


def io_capacity(tuning_input: TuningInput) -> Advice | None:
    """Advise 2000. The default is 200 on MySQL 8.0 and MariaDB, which suits a spinning disk, and 10000 since MySQL 8.4."""
    name = "innodb_io_capacity"
    now = tuning_input.int_variable(name)
    if now is None or tuning_input.product.has_custom_storage:
        return None
    why = "how fast pages are flushed in the background (pages/s): steadily, so that no burst stops the writers"
    return Advice(name, str(now), str(max(now, _IO_CAPACITY)), why, _SLOW_DISK_RISK, dynamic=True)


def flush_neighbors(tuning_input: TuningInput) -> Advice | None:
    """Advise 0. The default is 0 on MySQL 8.0 and 1 on MariaDB."""
    name = "innodb_flush_neighbors"
    now = tuning_input.variables.get(name)
    if now is None or tuning_input.product.has_custom_storage:
        return None
    why = "on an SSD, to write a page's neighbours along with it is work for nothing"
    return Advice(name, now, "0", why, "wrong for a spinning disk", dynamic=True)


def adaptive_hash_index(tuning_input: TuningInput) -> Advice | None:
    """Advise OFF. The index is on by default on MySQL 8.0, and off since MySQL 8.4 and MariaDB 10.5."""
    name = "innodb_adaptive_hash_index"
    now = tuning_input.variables.get(name)
    if now is None:
        return None
    why = "each insert has to keep it up to date, and its latches make writers wait for one another"
    return Advice(name, now, "OFF", why, "other programs' lookups by key may be slower", dynamic=True)


def query_cache(tuning_input: TuningInput) -> Advice | None:
    """Advise OFF on MariaDB. MySQL 8.0 does not have a query cache."""
    name = "query_cache_type"
    now = tuning_input.variables.get(name)
    if now is None:
        return None
    why = "each write to a table throws out all that is cached of it, under one lock for the whole server"
    advised = now if now.upper() in {"OFF", "0"} else "OFF"
    return Advice(name, now, advised, why, "programs that read the same rows again ask the table", dynamic=True)


RULES: Final[tuple[Callable[[TuningInput], Advice | None], ...]] = (
    flush_method,
    data_file_buffering,
    io_capacity_max,
    io_capacity,
    flush_neighbors,
    adaptive_hash_index,
    query_cache,
)
