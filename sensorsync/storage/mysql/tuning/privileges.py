"""The privileges of an account for `tune-db`. The report needs none, because every account may read the global variables."""

from __future__ import annotations

from typing import Final

SET_PRIVILEGES: Final = {
    "mysql": ("SYSTEM_VARIABLES_ADMIN", "PERSIST_RO_VARIABLES_ADMIN"),
    "mariadb": ("SUPER", "BINLOG ADMIN", "CONNECTION ADMIN"),
}
"""Flavor -> the privileges ON *.* for `--apply` and `--revert`.

On MariaDB the variables of InnoDB require SUPER, and sync_binlog and max_connections require the others: SUPER contains
them up to 10.11 only (MDEV-29668). On MySQL the second one is for undoing a SET PERSIST of innodb_buffer_pool_size,
which can be set without it (seen on 9.7).
"""

SCRATCH_TABLE: Final = "sensorsync_tune_db_scratch"
"""The table that `--measure` creates in `database.name`, fills and drops."""

SCRATCH_PRIVILEGES: Final = ("CREATE", "DROP", "SELECT", "INSERT", "UPDATE")
"""The privileges ON that table for `--measure`. They may be granted before the table exists."""
