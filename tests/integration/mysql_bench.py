"""What the tests against a real server share: settings for it, and a store that is closed at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sensorsync.config import DatabaseSettings, DatabaseTlsSettings
from sensorsync.storage.mysql.store import MySqlStore
from tests.services import DatabaseServer

PLAIN = DatabaseTlsSettings(mode="disabled")


def settings_for(server: DatabaseServer, name: str | None = None, **changes: Any) -> DatabaseSettings:
    """Settings of the subscriber's account on `server`."""
    return server.settings(name=name, **changes)


@contextmanager
def migrated(server: DatabaseServer, name: str | None = None, **changes: Any) -> Iterator[MySqlStore]:
    """A store on a database with our schema."""
    server.prepare(name)
    store = MySqlStore(settings_for(server, name, **changes))
    try:
        yield store
    finally:
        store.close()


def run_as_root(server: DatabaseServer, *statements: str, database: str | None = None) -> list[tuple[Any, ...]]:
    """Run statements as root; the rows of the last one."""
    with server.connect(database=database) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())
