"""The interface of a database for the commands: it creates sinks, checks and migrates the schema, and reads rows back for an audit.

`mysql` and `sqlite` each implement it; `open.open_store` selects one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from sensorsync.pipeline.contract import Sink
from sensorsync.pipeline.counters import ConnectionPoolCounters

INIT_HINT = "run `sensorsync init-db`"
"""The hint for a missing or an outdated schema."""

FIX_TABLE_HINT = (
    "`sensorsync init-db --check` says what differs: alter the table by hand, or rename it"
    " and run `sensorsync init-db` for a new one"
)
"""The hint for a table that does not have our schema. `init-db` never alters an existing table."""

READING_KEY = ("device_id", "metric", "ts", "event_id")
"""The primary key of `sensor_readings`.

A redelivery has the same key, and the rows of a device and metric are clustered for range reads.
"""


class StoredRow(NamedTuple):
    """One row of `sensor_readings`, as an audit reads it back."""

    device_id: str
    event_id: bytes
    metric: str
    ts: str
    """UTC, `2026-01-02 03:04:05.123456`."""
    value: float | None
    payload: str
    """JSON text. MySQL sorts its keys; MariaDB and SQLite keep the text as it was stored."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """A comparison of the schema in the database with the schema that this version needs."""

    database_exists: bool
    applied_migrations: tuple[str, ...]
    """Names of the migrations that the database has recorded, in order."""
    pending_migrations: tuple[str, ...]
    """Names of the migrations that it has not recorded."""
    differences: tuple[str, ...]
    """A sentence for each difference of our tables from those that this version writes to."""
    target_table_differences: tuple[str, ...] = ()
    """A sentence for each reason why a mapping's rows cannot be written to its target table, with the statement that fixes it."""

    @property
    def ready(self) -> bool:
        """True when `subscribe` can write to the database."""
        return (
            self.database_exists
            and not self.pending_migrations
            and not self.differences
            and not self.target_table_differences
        )


@dataclass(frozen=True, slots=True)
class MigrationResult:
    """The result of one `init-db`."""

    database_created: bool
    newly_applied: tuple[str, ...]
    state: SchemaState


@dataclass(frozen=True, slots=True)
class DroppedPartition:
    """A partition that was dropped, or would be."""

    name: str
    before: str
    """RFC 3339. All rows of the partition are older."""
    rows: int
    """The number of its rows, as the server estimates it."""


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """The changes that maintenance of the table made, or would make."""

    retained_since: str | None
    """RFC 3339. Older rows are removed in time; None removes none."""
    costs: str | None = None
    """A sentence with the reason why a person should agree before the change. None when the change is cheap."""
    partitioned: bool = False
    """True when the table has partitions before the change."""
    added: tuple[str, ...] = ()
    """Names of partitions."""
    dropped: tuple[DroppedPartition, ...] = ()
    statements: tuple[str, ...] = ()
    """The SQL statements of all changes."""
    partitions: int = 0
    """The number of partitions after the change."""
    covered_until: str | None = None
    """RFC 3339. The start of the last partition, which takes all later rows."""
    rows_beyond: int = 0
    """The number of rows in the last partition, counted up to ten million.

    These rows are of clocks that are ahead, unless maintenance is overdue.
    """
    deleted: int = 0
    """The number of rows that were deleted, or would be, in a database without partitions."""

    @property
    def change_count(self) -> int:
        """The number of changes that were made, or would be."""
        return len(self.added) + len(self.dropped) + self.deleted


def rfc3339(moment: datetime) -> str:
    """Format a time of the database (UTC, without a zone) to the second."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def device_id_range(run: str) -> tuple[str, str]:
    """Return lower bound (included) and upper bound (excluded) of the device ids of a stress run, which begin with `{run}-`.

    Ids compare byte for byte, and `.` is the character after `-`; so this is a range of the primary key.
    """
    return f"{run}-", f"{run}."


class RunRowsDiffer(Exception):
    """A stress run has `found` rows where they are deleted, which is another number than was expected."""

    def __init__(self, found: int) -> None:
        super().__init__(f"the run has {found} rows")
        self.found = found


class Store(Protocol):
    """A database with the table `sensor_readings` and the target tables of mappings.

    Its methods may be called from several threads; each Sink belongs to one.

    All methods raise SinkUnavailable (try again later) or SinkMisconfigured (a person has to fix something).
    """

    @property
    def label(self) -> str:
        """The product and address for people: `MariaDB 10.11.19 at db:3306, database sensorsync`."""
        ...

    @property
    def pool_counters(self) -> ConnectionPoolCounters | None:
        """The counters of its connection pool, or None when it has no pool."""
        ...

    def create_sink(self, worker: int) -> Sink:
        """Return a Sink for one writer. It connects at its first write."""
        ...

    def check_schema(self) -> None:
        """Return when rows can be written to the present tables. Raises SinkMisconfigured with the differences."""
        ...

    def check_writable(self) -> None:
        """Return when a row could be written now, and write none.

        This is for health checks, because a server may answer and still refuse all rows.
        """
        ...

    def schema_state(self) -> SchemaState:
        """Return the state of the schema, and change nothing."""
        ...

    def migrate(self) -> MigrationResult:
        """Create the database where it does not exist, and apply the pending migrations.

        The call can be repeated, and several can run at once.
        """
        ...

    def maintain(self, retain: timedelta | None, *, partitions: bool, dry_run: bool) -> MaintenanceReport:
        """Create and maintain partitions by day, and remove rows whose `ts` is older than `retain`.

        With `partitions` a table without partitions is partitioned; one that has partitions is maintained in any case.
        The call can be repeated, several can run at once, and rows can be written meanwhile. With `dry_run` nothing is
        changed.

        Raises ConfigurationError where the database does not support partitions, or needs them before rows can be
        removed; DatabaseError when the table is in use for too long; AlreadyRunningError.
        """
        ...

    def durability_warnings(self) -> list[str]:
        """Return a sentence for each way in which this server can lose rows after it has answered COMMIT with OK.

        There is also one for each target table whose rows with different keys can count as the same. Empty when there
        are none.
        """
        ...

    def rows_of_run(self, run: str) -> Iterator[StoredRow]:
        """Yield the rows of a stress run in the order of their key. Close the iterator if you stop early."""
        ...

    def count_run_rows(self, run: str) -> int:
        """Return the number of rows of a stress run."""
        ...

    def delete_run_rows(self, run: str, expected: int) -> int:
        """Delete the `expected` rows of a stress run, some thousand at a time, and return their number.

        Raises RunRowsDiffer, and deletes nothing, when the server that deletes has another number of rows.
        """
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
