"""What an account needs for `tune-db`. The report needs nothing: every account may read the global variables."""

from __future__ import annotations

from typing import Final

SET_PRIVILEGES: Final = {
    "mysql": ("SYSTEM_VARIABLES_ADMIN", "PERSIST_RO_VARIABLES_ADMIN"),
    "mariadb": ("SUPER", "BINLOG ADMIN", "CONNECTION ADMIN"),
}
"""Flavor -> what `--apply` and `--revert` need, ON *.*. On MariaDB InnoDB's variables want SUPER, sync_binlog and max_connections the
others: SUPER contains them up to 10.11 only (MDEV-29668). On MySQL the second is for taking back a SET PERSIST of
innodb_buffer_pool_size, which can be set without it (seen on 9.7)."""

SCRATCH_TABLE: Final = "sensorsync_tune_db_scratch"
"""The table that `--measure` makes in `database.name`, fills and drops."""

SCRATCH_PRIVILEGES: Final = ("CREATE", "DROP", "SELECT", "INSERT", "UPDATE")
"""What `--measure` needs ON that table (which may be granted before it is there)."""
