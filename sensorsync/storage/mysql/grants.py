"""The accounts that sensorsync needs on a server, each with the fewest privileges that its commands need.

The privileges belong to one version: `init-db --grants` prints them, and the tests run as these accounts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sensorsync.config import DatabaseSettings
from sensorsync.errors import UsageError
from sensorsync.messages.reading import TargetTable
from sensorsync.storage.mysql.connect import ConnectionFactory
from sensorsync.storage.mysql.migrations import quote_identifier
from sensorsync.storage.mysql.schema import database_connection
from sensorsync.storage.mysql.session import query_server_info
from sensorsync.storage.mysql.tuning.privileges import SCRATCH_PRIVILEGES, SCRATCH_TABLE, SET_PRIVILEGES

ROLES: Final = {
    "owner": ("init-db", "audit --clean"),
    "subscriber": ("subscribe", "stress-publish --verify", "audit"),
    "replayer": ("dlq replay",),
    "tuner": ("tune-db",),
}
"""Role -> the commands that run with its account."""

_HOST = re.compile(r"[\w.:%/*-]{1,255}", re.ASCII)
_ENCRYPTED: Final = frozenset({"required", "verify-ca", "verify-identity"})

# SELECT is needed even without reading rows: the upsert refers to the old row, and `subscribe` reads information_schema at start.
_WRITE: Final = "SELECT, INSERT, UPDATE"
# Additional privileges for `init-db --partitions`: MySQL Reference Manual, "ALTER TABLE Statement"; DROP PARTITION also needs DROP.
_PARTITION: Final = "ALTER, DROP"


@dataclass(frozen=True, slots=True)
class Account:
    """One account and the statements that create it."""

    role: str
    user: str
    commands: tuple[str, ...]
    password: str
    """The placeholder of the password in the statements. It is not valid SQL, so that no statement runs before it is replaced."""
    statements: tuple[str, ...]
    """The statements without the semicolon."""


def accounts(
    settings: DatabaseSettings, *, mariadb: bool, host: str, target_tables: Sequence[TargetTable] = ()
) -> list[Account]:
    """Return the accounts in the order in which they are created.

    `host`: the hosts that they may connect from (`%`: any).

    The table of a GRANT must exist, unless the GRANT includes CREATE (MySQL Reference Manual, "GRANT Statement"). So
    the owner comes first, then `init-db` runs, then the others follow. Raises UsageError when `host` is not valid.

    The owner gets only SELECT on a target table, which `init-db --check` needs. Its CREATE there adds no privilege,
    because it may create every table of the database.
    """
    if not _HOST.fullmatch(host):
        raise UsageError(f"--host: {host!r} is no host, address or pattern such as 10.0.%")
    schema = quote_identifier(settings.name)
    readings = f"{schema}.sensor_readings"
    targets = [f"{schema}.{quote_identifier(table.name)}" for table in target_tables]
    write = tuple(f"{_WRITE} ON {table}" for table in (readings, *targets))
    grants = {
        "owner": (
            f"CREATE ON {_grant_pattern(settings.name)}.*",
            f"CREATE, SELECT, INSERT, UPDATE ON {schema}.sensorsync_migrations",
            f"CREATE, SELECT, DELETE, {_PARTITION} ON {readings}",
            *(f"CREATE, SELECT ON {table}" for table in targets),
        ),
        "subscriber": write,
        "replayer": write,
        "tuner": (
            f"{', '.join(SET_PRIVILEGES['mariadb' if mariadb else 'mysql'])} ON *.*",
            f"{', '.join(SCRATCH_PRIVILEGES)} ON {schema}.{SCRATCH_TABLE}",
        ),
    }
    encrypted = " REQUIRE SSL" if settings.tls.mode in _ENCRYPTED else ""
    return [_account(role, grants[role], host, encrypted) for role in ROLES]


def is_mariadb(settings: DatabaseSettings) -> bool:
    """Return True when the server is a MariaDB server. Raises SinkUnavailable or SinkMisconfigured."""
    with database_connection(ConnectionFactory(settings), database=False) as connection:
        return query_server_info(connection).mariadb


def _account(role: str, grants: tuple[str, ...], host: str, encrypted: str) -> Account:
    user = f"sensorsync_{role}"
    who = f"'{user}'@'{host}'"
    password = f"<password of the {role}>"
    made = f"CREATE USER IF NOT EXISTS {who} IDENTIFIED BY {password}{encrypted}"
    return Account(role, user, ROLES[role], password, (made, *(f"GRANT {grant} TO {who}" for grant in grants)))


def _grant_pattern(name: str) -> str:
    """Return a schema's name for a GRANT that takes a pattern.

    `_` and `%` are wildcards there; in a GRANT for a table they are not.
    """
    return quote_identifier(re.sub(r"([\\_%])", r"\\\1", name))
