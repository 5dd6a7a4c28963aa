"""The schema: what the database has of it, how it differs from what we write to, and bringing it up to date."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pymysql

from sensorsync.config import DatabaseSettings
from sensorsync.errors import AlreadyRunningError
from sensorsync.messages.reading import TargetTable
from sensorsync.storage.mysql.connect import Connection, ConnectionFactory, close_quietly, sink_error
from sensorsync.storage.mysql.diagnosis import Phase, diagnose_error
from sensorsync.storage.mysql.faults import UNKNOWN_DATABASE
from sensorsync.storage.mysql.migrations import (
    CREATE_MIGRATIONS_TABLE,
    RECORD_MIGRATION,
    create_database_statement,
    migrations,
)
from sensorsync.storage.mysql.server import decode_text
from sensorsync.storage.mysql.target_tables import target_table_differences as own_differences
from sensorsync.storage.store import READING_KEY, MigrationResult, SchemaState

_LOCK_SECONDS: Final = 10
_DDL_TIMEOUT: Final = 3600.0
"""Seconds that a migration of a big table may take."""

READINGS_COLUMNS: Final = {
    "device_id": ("varchar(128)", False),
    "metric": ("varchar(128)", False),
    "ts": ("datetime(6)", False),
    "event_id": ("binary(16)", False),
    "value": ("double", True),
    "value_text": ("text", True),
    "unit": ("varchar(64)", True),
    "topic": ("text", False),
    "received_at": ("datetime(6)", False),
    "revised_at": ("datetime(6)", True),
    "payload": ("json", False),
}
"""Column -> (type as information_schema has it, whether NULL may stand in it). MariaDB's name for json is longtext."""


@contextlib.contextmanager
def database_connection(
    connector: ConnectionFactory, *, database: bool = True, read_timeout: float | None = None
) -> Iterator[Connection]:
    """A connection outside the pool, for as long as the block lasts.

    Errors of the driver come out as SinkUnavailable or SinkMisconfigured.
    """
    connection = connector.new_connection(read_timeout=read_timeout, database=database)
    try:
        connector.open(connection)
    except Exception as error:
        raise sink_error(diagnose_error(error, Phase.CONNECT), connector.address) from error
    try:
        yield connection
    except (pymysql.Error, OSError) as error:
        raise sink_error(diagnose_error(error, Phase.CONNECT), connector.address) from error
    finally:
        close_quietly(connection)


def read_schema_state(connector: ConnectionFactory, target_tables: Sequence[TargetTable] = ()) -> SchemaState:
    """What the database has; changes nothing. Raises SinkUnavailable or SinkMisconfigured."""
    try:
        with database_connection(connector) as connection, connection.cursor() as cursor:
            return _query_schema_state(cursor, target_tables)
    except Exception as error:
        if getattr(error, "errno", None) == UNKNOWN_DATABASE:
            return SchemaState(False, (), tuple(m.name for m in migrations()), ())
        raise


def migrate(
    connector: ConnectionFactory, settings: DatabaseSettings, target_tables: Sequence[TargetTable] = ()
) -> MigrationResult:
    """Create the database where it is missing and apply what is pending. Concurrent calls wait for one another.

    Tables of the user's own are looked at, and left as they are.
    """
    created = not read_schema_state(connector).database_exists
    if created:
        with database_connection(connector, database=False) as connection, connection.cursor() as cursor:
            _execute(cursor, create_database_statement(settings.name))
    with database_connection(connector, read_timeout=_DDL_TIMEOUT) as connection, connection.cursor() as cursor:
        with migration_lock(cursor, settings.name, connector.address):
            _execute(cursor, CREATE_MIGRATIONS_TABLE)
            recorded = _applied_migrations(cursor)
            now = [m for m in migrations() if m.version not in recorded]
            for migration in now:
                for statement in migration.statements:
                    _execute(cursor, statement)
                _execute(cursor, RECORD_MIGRATION.format(version=migration.version, name=migration.name))
        return MigrationResult(created, tuple(m.name for m in now), _query_schema_state(cursor, target_tables))


@contextlib.contextmanager
def migration_lock(cursor: Any, database: str, address: str) -> Iterator[None]:
    """A lock of the server's, held by this session: two `init-db` at once run one after the other.

    AlreadyRunningError when the other one does not end soon.
    """
    name = f"sensorsync.init-db.{hashlib.sha256(database.encode()).hexdigest()[:16]}"  # 64 characters at most on MySQL
    cursor.execute("SELECT GET_LOCK(%s, %s)", (name, _LOCK_SECONDS))
    if cursor.fetchone() != (1,):
        raise AlreadyRunningError(
            f"{address}: another init-db is at work; it holds the lock {name}",
            hint="let it finish, then run this again",
        )
    try:
        yield
    finally:
        with contextlib.suppress(pymysql.Error):
            cursor.execute("SELECT RELEASE_LOCK(%s)", (name,))


def _execute(cursor: Any, statement: str) -> None:
    cursor.execute(statement)


def _applied_migrations(cursor: Any) -> dict[int, str]:
    """Version -> name of the migrations that the database has recorded. Ours count for nothing when the table is gone: made anew."""
    cursor.execute(
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'sensorsync_migrations'"
    )
    if cursor.fetchone() == (0,):
        return {}
    cursor.execute("SELECT version, name FROM sensorsync_migrations ORDER BY version")
    recorded = dict(cursor.fetchall())
    if readings_engine(cursor) is None:
        return {version: name for version, name in recorded.items() if version not in {m.version for m in migrations()}}
    return recorded


def _query_schema_state(cursor: Any, target_tables: Sequence[TargetTable]) -> SchemaState:
    recorded = _applied_migrations(cursor)
    known = {m.version for m in migrations()}
    differences = [
        f"migration {name} is not known to this version of sensorsync, a newer one has applied it"
        for version, name in recorded.items()
        if version not in known
    ]
    pending = tuple(m.name for m in migrations() if m.version not in recorded)
    if differences_of_table := readings_table_differences(cursor):
        differences += differences_of_table
    own = tuple(own_differences(cursor, target_tables))
    return SchemaState(True, tuple(recorded.values()), pending, tuple(differences), own)


def readings_engine(cursor: Any) -> str | None:
    """The storage engine of `sensor_readings`; None where there is no such table (or this user may not see it)."""
    cursor.execute(
        "SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'sensor_readings'"
    )
    row = cursor.fetchone()
    return None if row is None else str(row[0])


def readings_table_differences(cursor: Any) -> list[str]:
    """Sentences: where `sensor_readings` is not what we write to. Own columns that may be NULL, indexes and partitions are fine."""
    found = readings_engine(cursor)
    if found is None:
        return ["the table sensor_readings does not exist"]
    said = [] if found.lower() == "innodb" else [f"the engine of sensor_readings is {found}, not InnoDB"]
    cursor.execute(
        "SELECT column_name, column_type, is_nullable, column_default, collation_name, extra FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND table_name = 'sensor_readings' ORDER BY ordinal_position"
    )
    said += _column_differences(cursor.fetchall())
    cursor.execute(
        "SELECT index_name, column_name FROM information_schema.statistics"
        " WHERE table_schema = DATABASE() AND table_name = 'sensor_readings' AND non_unique = 0 ORDER BY index_name, seq_in_index"
    )
    keys: dict[str, list[str]] = {}
    for index, column in cursor.fetchall():
        keys.setdefault(index, []).append(column)
    primary = tuple(keys.pop("PRIMARY", ()))
    if primary != READING_KEY:
        said.append(f"the primary key of sensor_readings is ({', '.join(primary)}), not ({', '.join(READING_KEY)})")
    said += [f"sensor_readings has a second unique key, {name}: an upsert could change the wrong row" for name in keys]
    return said


def _column_differences(rows: Sequence[Sequence[Any]]) -> list[str]:
    said: list[str] = []
    actual = {row[0]: row for row in rows}
    for name, (kind, nullable) in READINGS_COLUMNS.items():
        if name not in actual:
            said.append(f"sensor_readings has no column {name}")
            continue
        _, actual_kind, is_nullable, _, collation, _ = actual[name]
        actual_kind = decode_text(actual_kind).lower()
        if kind == "json" and actual_kind == "longtext":
            actual_kind = "json"
        if actual_kind != kind:
            said.append(f"sensor_readings.{name} is {actual_kind}, not {kind}")
        if (is_nullable == "YES") != nullable:
            said.append(f"sensor_readings.{name} {'may not' if nullable else 'may'} be NULL")
        if name in READING_KEY and collation is not None and not collation.endswith("_bin"):
            said.append(
                f"sensor_readings.{name} has the collation {collation}: ids that differ would count as the same"
            )
    for name, _, is_nullable, default, _, extra in rows:
        if (
            name not in READINGS_COLUMNS
            and is_nullable == "NO"
            and default is None
            and "generated" not in decode_text(extra).lower()
        ):
            said.append(f"sensor_readings.{name} is a column of its own that demands a value")
    return said
