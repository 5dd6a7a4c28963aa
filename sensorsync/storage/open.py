"""The choice of the database by `database.driver`, and the translation of its exceptions into errors of a command."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

from sensorsync.config import DatabaseSettings
from sensorsync.errors import ConfigurationError, DatabaseError
from sensorsync.messages.reading import TargetTable
from sensorsync.pipeline.contract import SinkMisconfigured, SinkUnavailable, SinkVerificationFailed
from sensorsync.storage import mysql, sqlite
from sensorsync.storage.mysql import grants
from sensorsync.storage.store import Store

logger = logging.getLogger(__name__)

_UNREACHABLE_HINT = "Is the database server running, and reachable from here?"


def open_store(settings: DatabaseSettings, target_tables: tuple[TargetTable, ...] = ()) -> Store:
    """Return the database of `database.driver`, with the tables that mappings write to (`Settings.target_tables`).

    No connection is opened yet. Raises ConfigurationError for settings that cannot work.
    """
    return (
        sqlite.open_store(settings, target_tables)
        if settings.driver == "sqlite"
        else mysql.open_store(settings, target_tables)
    )


def schema_sql(settings: DatabaseSettings) -> str:
    """Return the SQL that `init-db` would run on an empty server or a new file."""
    return sqlite.schema_sql(settings) if settings.driver == "sqlite" else mysql.schema_sql(settings)


def accounts(
    settings: DatabaseSettings, target_tables: Sequence[TargetTable], *, mariadb: bool | None, host: str
) -> tuple[bool, list[grants.Account]]:
    """Return a flag that is True for a MariaDB server, and the accounts that sensorsync needs on the server.

    `mariadb`: None queries the server for the flag.
    """
    if settings.driver == "sqlite":
        raise ConfigurationError("SQLite knows no accounts.", hint="set database.driver to mysql")
    if mariadb is None:
        mariadb = grants.is_mariadb(settings)
    return mariadb, grants.accounts(settings, mariadb=mariadb, host=host, target_tables=target_tables)


@contextlib.contextmanager
def database_errors() -> Iterator[None]:
    """Raise the exceptions of a sink or a store in the block as DatabaseError, with their hint.

    This is for commands that do not wait and retry.
    """
    try:
        yield
    except (SinkMisconfigured, SinkUnavailable) as error:
        logger.debug("%s", error, exc_info=True)
        hint = error.hint if isinstance(error, SinkMisconfigured | SinkVerificationFailed) else _UNREACHABLE_HINT
        raise DatabaseError(str(error), hint=hint) from None  # the message contains the driver's text already
