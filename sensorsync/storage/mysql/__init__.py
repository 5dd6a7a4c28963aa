"""MySQL and MariaDB: the only place that knows PyMySQL and DBUtils."""

from __future__ import annotations

from sensorsync.config import DatabaseSettings
from sensorsync.messages.reading import TargetTable
from sensorsync.storage.mysql.migrations import schema_script
from sensorsync.storage.mysql.store import MySqlStore
from sensorsync.storage.store import Store


def open_store(settings: DatabaseSettings, target_tables: tuple[TargetTable, ...] = ()) -> Store:
    """The server that `settings` names, with the tables of the user's own that mappings write to; nothing is connected yet.

    ConfigurationError when a file that the settings name is missing.
    """
    return MySqlStore(settings, target_tables)


def schema_sql(settings: DatabaseSettings) -> str:
    """What `init-db` would run on an empty server."""
    return schema_script(settings.name)
