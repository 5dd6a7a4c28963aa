"""The schema of the database: its present state, its differences from the tables that sensorsync writes to, and its migrations."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pymysql

from sensorsync.config import DatabaseSettings
from sensorsync.errors import AlreadyRunningError
from sensorsync.messages.reading import TargetTable
from sensorsync.pipeline.contract import SinkMisconfigured
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
from sensorsync.storage.mysql.session import CHARSET
from sensorsync.storage.mysql.target_tables import target_table_differences
from sensorsync.storage.store import READING_KEY, MigrationResult, SchemaState

_GENERATED: Final = re.compile(r"\b(?:virtual|stored|persistent)\b", re.IGNORECASE)
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
"""The columns of `sensor_readings`: name -> (type as in information_schema, True when the column may be NULL).

MariaDB's name for json is longtext.
"""


@contextlib.contextmanager
def database_connection(
    connector: ConnectionFactory, *, database: bool = True, read_timeout: float | None = None
) -> Iterator[Connection]:
    """Open a connection outside the pool for the duration of the block.

    Errors of the driver are raised as SinkUnavailable or SinkMisconfigured.
    """
    connection = connector.new_connection(read_timeout=read_timeout, database=database)
    try:
        connector.open(connection)
    except SinkMisconfigured:
        raise
    except Exception as error:
        raise sink_error(diagnose_error(error, Phase.CONNECT), connector.address) from error
    try:
        yield connection
    except (pymysql.Error, OSError) as error:
        raise sink_error(diagnose_error(error, Phase.CONNECT), connector.address) from error
    finally:
        close_quietly(connection)


def read_schema_state(connector: ConnectionFactory, target_tables: Sequence[TargetTable] = ()) -> SchemaState:
    """Return the state of the schema in the database, and change nothing.

    Raises SinkUnavailable or SinkMisconfigured.
    """
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
    """Create the database where it is missing, and apply the pending migrations.

    Concurrent calls run one after the other. Target tables are checked and never altered.
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
    """Hold a lock of the server in this session, so that two `init-db` at once run one after the other.

    Raises AlreadyRunningError when the other one does not end within ten seconds.
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
    """Return the migrations that the database has recorded: version -> name.

    The migrations of this version do not count when `sensor_readings` is gone, so that they create it again.
    """
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
    if readings_differences := readings_table_differences(cursor):
        differences += readings_differences
    of_target_tables = tuple(target_table_differences(cursor, target_tables))
    return SchemaState(True, tuple(recorded.values()), pending, tuple(differences), of_target_tables)


def readings_engine(cursor: Any) -> str | None:
    """Return the storage engine of `sensor_readings`.

    None when the table does not exist, or this account may not see it.
    """
    cursor.execute(
        "SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'sensor_readings'"
    )
    row = cursor.fetchone()
    return None if row is None else str(row[0])


def readings_table_differences(cursor: Any) -> list[str]:
    """Return a sentence for each difference of `sensor_readings` from the table that sensorsync writes to.

    Additional columns that may be NULL, indexes and partitions are not differences.
    """
    engine = readings_engine(cursor)
    if engine is None:
        return ["the table sensor_readings does not exist"]
    differences = [] if engine.lower() == "innodb" else [f"the engine of sensor_readings is {engine}, not InnoDB"]
    cursor.execute(
        "SELECT column_name, column_type, is_nullable, CAST(column_default AS BINARY), collation_name, extra, character_set_name"
        " FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND table_name = 'sensor_readings' ORDER BY ordinal_position"
    )
    differences += _column_differences(cursor.fetchall())
    cursor.execute(
        "SELECT index_name, column_name, sub_part FROM information_schema.statistics"
        " WHERE table_schema = DATABASE() AND table_name = 'sensor_readings' AND non_unique = 0 ORDER BY index_name, seq_in_index"
    )
    keys: dict[str, list[str]] = {}
    for index, column, prefix in cursor.fetchall():
        keys.setdefault(index, []).append(str(column) if prefix is None else f"{column}({prefix})")
    primary = tuple(keys.pop("PRIMARY", ()))
    if primary != READING_KEY:
        differences.append(
            f"the primary key of sensor_readings is ({', '.join(primary)}), not ({', '.join(READING_KEY)})"
        )
    differences += [
        f"sensor_readings has a second unique key, {name}: an upsert could change the wrong row" for name in keys
    ]
    return differences


def _column_differences(rows: Sequence[Sequence[Any]]) -> list[str]:
    differences: list[str] = []
    actual = {row[0]: row for row in rows}
    for name, (kind, nullable) in READINGS_COLUMNS.items():
        if name not in actual:
            differences.append(f"sensor_readings has no column {name}")
            continue
        _, actual_kind, is_nullable, _, collation, extra, charset = actual[name]
        actual_kind = decode_text(actual_kind).lower()
        if kind == "json" and actual_kind == "longtext":
            actual_kind = "json"
        if actual_kind != kind:
            differences.append(f"sensor_readings.{name} is {actual_kind}, not {kind}")
        if (is_nullable == "YES") != nullable:
            differences.append(f"sensor_readings.{name} {'may not' if nullable else 'may'} be NULL")
        if name in READING_KEY and collation is not None and not collation.endswith("_bin"):
            differences.append(
                f"sensor_readings.{name} has the collation {collation}: ids that differ would count as the same"
            )
        if charset is not None and charset.lower() != CHARSET:
            differences.append(
                f"sensor_readings.{name} has the character set {charset}, not {CHARSET}: it lacks characters that readings have"
            )
        if _GENERATED.search(decode_text(extra)):
            differences.append(f"sensor_readings.{name} is a generated column: nothing can be written to it")
    for name, _, is_nullable, default, _, extra, _ in rows:
        if (
            name not in READINGS_COLUMNS
            and is_nullable == "NO"
            and default is None
            and "generated" not in decode_text(extra).lower()
        ):
            differences.append(f"sensor_readings.{name} is a column of its own that demands a value")
    return differences
