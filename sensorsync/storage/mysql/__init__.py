"""MySQL and MariaDB: the only package that imports PyMySQL and DBUtils."""

from __future__ import annotations

from sensorsync.config import DatabaseSettings
from sensorsync.messages.reading import TargetTable
from sensorsync.storage.mysql.migrations import schema_script
from sensorsync.storage.mysql.store import MySqlStore
from sensorsync.storage.store import Store


def open_store(settings: DatabaseSettings, target_tables: tuple[TargetTable, ...] = ()) -> Store:
    """Return the server that `settings` configure, with the target tables of the mappings. No connection is opened yet.

    Raises ConfigurationError when a file in the settings does not exist.
    """
    return MySqlStore(settings, target_tables)


def schema_sql(settings: DatabaseSettings) -> str:
    """Return the SQL that `init-db` would run on an empty server."""
    return schema_script(settings.name)
