"""What a database is to the commands: where sinks come from, whether its schema fits, and how an audit reads it back.

`mysql` and `sqlite` each hand out one of these; `drivers.open_store` chooses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from sensorsync.pipeline.contract import Sink
from sensorsync.pipeline.counters import ConnectionPoolCounters

INIT_HINT = "run `sensorsync init-db`"
"""What to do about a missing or an old schema."""

FIX_TABLE_HINT = (
    "`sensorsync init-db --check` says what differs: alter the table by hand, or rename it"
    " and run `sensorsync init-db` for a new one"
)
"""What to do about a table that is not ours to write to: `init-db` changes none that is there."""

READING_KEY = ("device_id", "metric", "ts", "event_id")
"""The primary key of `sensor_readings`: a redelivery has the same, and range reads per device and metric are clustered."""


class StoredRow(NamedTuple):
    """One row of `sensor_readings`, as an audit reads it back."""

    device_id: str
    event_id: bytes
    metric: str
    ts: str
    """UTC, `2026-01-02 03:04:05.123456`."""
    value: float | None
    payload: str
    """JSON text; MySQL sorts its keys, MariaDB and SQLite keep the text as it was stored."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """How far the schema in the database is the one that this version needs."""

    database_exists: bool
    applied_migrations: tuple[str, ...]
    """Names of the migrations that the database has recorded, in order."""
    pending_migrations: tuple[str, ...]
    """Names of those that it has not."""
    differences: tuple[str, ...]
    """Sentences: where our tables differ from what this version writes to."""
    target_table_differences: tuple[str, ...] = ()
    """Sentences: why rows cannot go into the tables of the user's own as the mappings say, and the statements that mend it."""

    @property
    def ready(self) -> bool:
        """Whether `subscribe` can write to it."""
        return (
            self.database_exists
            and not self.pending_migrations
            and not self.differences
            and not self.target_table_differences
        )


@dataclass(frozen=True, slots=True)
class MigrationResult:
    """What one `init-db` did."""

    database_created: bool
    newly_applied: tuple[str, ...]
    state: SchemaState


@dataclass(frozen=True, slots=True)
class DroppedPartition:
    """A partition that was dropped, or would be."""

    name: str
    before: str
    """All of its rows are older than this, RFC 3339."""
    rows: int
    """How many there were, as the server estimates it."""


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """What keeping the table in order did, or would do."""

    retained_since: str | None
    """Rows that are older leave, by and by; RFC 3339. None: none do."""
    costs: str | None = None
    """A sentence: why a person should agree before it is done. None when it is cheap."""
    partitioned: bool = False
    """Whether the table has partitions, before anything is done."""
    added: tuple[str, ...] = ()
    """Names of partitions."""
    dropped: tuple[DroppedPartition, ...] = ()
    statements: tuple[str, ...] = ()
    """The SQL of all this."""
    partitions: int = 0
    """How many there are then."""
    covered_until: str | None = None
    """Where the last partition begins, that of all later rows; RFC 3339."""
    rows_beyond: int = 0
    """How many rows it has: of clocks that are ahead, if the upkeep is not late. Counted up to ten million."""
    deleted: int = 0
    """Rows that were deleted, or would be, where there are no partitions."""

    @property
    def change_count(self) -> int:
        """How many things were done, or are to be done."""
        return len(self.added) + len(self.dropped) + self.deleted


def rfc3339(moment: datetime) -> str:
    """A time of the database (UTC, without a zone) for people and machines, to the second."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def device_id_range(run: str) -> tuple[str, str]:
    """Lower bound (included) and upper bound (excluded) of the device ids of a stress run, which begin with `{run}-`.

    Ids compare byte for byte, and `.` is the character after `-`; so this is a range of the primary key.
    """
    return f"{run}-", f"{run}."


class Store(Protocol):
    """A database with the table `sensor_readings`, and tables of the user's own that mappings write to.

    Its methods may be called from several threads; each Sink belongs to one.

    All of them raise SinkUnavailable (try again later) or SinkMisconfigured (a person has to mend something).
    """

    @property
    def label(self) -> str:
        """What it is and where, for people: `MariaDB 10.11.19 at db:3306, database sensorsync`."""
        ...

    @property
    def pool_counters(self) -> ConnectionPoolCounters | None:
        """The counts of its pool of connections; None when it has none."""
        ...

    def create_sink(self, worker: int) -> Sink:
        """The way into the database of one writer; it connects at its first write."""
        ...

    def check_schema(self) -> None:
        """Return when rows can be written as they are; SinkMisconfigured says what is missing."""
        ...

    def check_writable(self) -> None:
        """Return when a row could be written now; nothing is. For health checks: a server may answer and yet refuse all rows."""
        ...

    def schema_state(self) -> SchemaState:
        """Look, and change nothing."""
        ...

    def migrate(self) -> MigrationResult:
        """Create the database, if there is none, and apply the migrations that are pending. Safe to run twice, and at once."""
        ...

    def maintain(self, retain: timedelta | None, *, partitions: bool, dry_run: bool) -> MaintenanceReport:
        """Make and keep partitions by day, where `partitions` or where there are some; remove rows whose `ts` is older than `retain`.

        Safe to run twice, at once, and while rows are written. With `dry_run` nothing is changed. ConfigurationError where the
        database has no partitions, or has to have them before rows can be removed; DatabaseError when the table is in use for too
        long; AlreadyRunningError.
        """
        ...

    def durability_warnings(self) -> list[str]:
        """Sentences: what this server can lose of rows whose COMMIT it has answered with OK; which rows of own tables count as one.

        Empty when nothing.
        """
        ...

    def rows_of_run(self, run: str) -> Iterator[StoredRow]:
        """Stream the rows of a stress run in the order of their key. Close the iterator if you stop early."""
        ...

    def count_run_rows(self, run: str) -> int:
        """How many rows a stress run has."""
        ...

    def delete_run_rows(self, run: str) -> int:
        """Delete the rows of a stress run, some thousand at a time; return how many there were."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
