"""SQLite: the embedded database for the demo and small gateways."""

from __future__ import annotations

from sensorsync.config import DatabaseSettings
from sensorsync.errors import ConfigurationError
from sensorsync.messages.reading import TargetTable
from sensorsync.storage.sqlite.schema import schema_script
from sensorsync.storage.sqlite.store import SqliteStore
from sensorsync.storage.store import Store


def open_store(settings: DatabaseSettings, target_tables: tuple[TargetTable, ...] = ()) -> Store:
    """Return the file that `settings` configure, with the target tables of the mappings. Nothing is opened yet."""
    if settings.path is None:
        raise ConfigurationError("database.driver is sqlite, so database.path must name the file")
    return SqliteStore(settings.path, settings.conflict, target_tables)


def schema_sql(settings: DatabaseSettings) -> str:  # noqa: ARG001 - the same for every file; the signature is that of mysql
    """Return the SQL that `init-db` would run on a new file."""
    return schema_script()
