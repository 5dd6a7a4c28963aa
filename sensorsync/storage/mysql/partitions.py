"""Planning of the partitions of `sensor_readings` by day. This module accesses neither a server nor a clock.

The partitioning is RANGE COLUMNS (ts), so that the bounds are readable dates (MySQL Reference Manual, "RANGE COLUMNS
partitioning"). The last partition is LESS THAN (MAXVALUE), so that every row has a partition (error 1526). The first
one has no lower bound and takes all older rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final, NamedTuple

from sensorsync.storage.mysql.migrations import quote_identifier

DAYS_AHEAD: Final = 14
"""The number of days after today that have a partition in advance.

Maintenance may fail for this long before rows go into the last partition.
"""

DAYS_BACK: Final = 366
"""The age in days up to which a single day gets a partition. A device with a clock in 1970 therefore does not cause
20,000 partitions.
"""

_DAY: Final = timedelta(days=1)
_PAST: Final = "p_past"
_FUTURE: Final = "p_future"


class Partition(NamedTuple):
    """One partition. Its rows begin where those of the previous one end."""

    name: str
    upper_bound: datetime | None
    """The `ts` (UTC, no zone) at which its rows end, excluded. None stands for MAXVALUE."""
    rows: int = 0
    """The number of rows, as the server estimates it."""


@dataclass(frozen=True, slots=True)
class PartitionPlan:
    """The changes from the existing partitions to the required ones."""

    added: tuple[Partition, ...]
    dropped: tuple[Partition, ...]
    statements: tuple[str, ...]
    """The statements in the order in which they are run. Empty when nothing has to be changed."""
    resulting: tuple[Partition, ...]
    """The partitions after the change."""


def plan_partitions(
    existing: Sequence[Partition], now: datetime, *, retain: timedelta | None = None, oldest: datetime | None = None
) -> PartitionPlan:
    """Plan the changes from the `existing` partitions, in their order, to those that are required at `now` (UTC, no zone).

    Without existing partitions the table is to be partitioned. `oldest` is the `ts` of the oldest row of a table that
    has no bound yet, None when the table is empty. With `retain` the partitions that end at or before `now - retain`
    are dropped. One for today exists by then, so they are never all dropped.
    """
    today = _midnight(now)
    cutoff = None if retain is None else now - retain
    first = today - DAYS_BACK * _DAY
    if cutoff is not None:
        first = max(first, _midnight(cutoff))
    bounded = [one for one in existing if one.upper_bound is not None]
    taken = {one.name.lower() for one in existing}
    start = bounded[-1].upper_bound if bounded else None
    if start is None:
        start = min(max(first, _midnight(oldest)), today) if oldest else today
        added = [Partition(_unused_name(_PAST, taken), start)]
    elif start < first:  # maintenance did not run for long, so one partition covers that time
        added = [Partition(_unused_name(f"p{start:%Y%m%d}_{first - _DAY:%Y%m%d}", taken), first)]
        start = first
    else:
        added = []
    added += _daily_partitions(start, today + (DAYS_AHEAD + 1) * _DAY, taken)
    last = (
        existing[-1] if existing and existing[-1].upper_bound is None else Partition(_unused_name(_FUTURE, taken), None)
    )
    kept = [*bounded, *added, last]
    statements = _add_statements(existing, added, last)
    dropped = [one for one in kept if cutoff and one.upper_bound and one.upper_bound <= cutoff]
    if dropped:
        names = ", ".join(quote_identifier(one.name) for one in dropped)
        statements.append(f"ALTER TABLE sensor_readings DROP PARTITION {names}")
    return PartitionPlan(
        tuple(added), tuple(dropped), tuple(statements), tuple(one for one in kept if one not in dropped)
    )


def parse_bound(description: str) -> datetime | None:
    """Return the bound of a `partition_description` of information_schema: `'2026-01-02'`, as it was written, or MAXVALUE.

    Raises ValueError for other descriptions.
    """
    return None if description == "MAXVALUE" else datetime.fromisoformat(description.strip("'"))


def _daily_partitions(start: datetime, end: datetime, used_names: set[str]) -> list[Partition]:
    """Return one partition for each day from `start` to `end`. The first is shorter where `start` is not a midnight."""
    days = []
    while start < end:
        below = _midnight(start) + _DAY
        days.append(Partition(_unused_name(f"p{start:%Y%m%d}", used_names), below))
        start = below
    return days


def _add_statements(existing: Sequence[Partition], added: Sequence[Partition], last: Partition) -> list[str]:
    listed = _format_partitions([*added, last])
    if not existing:
        return [f"ALTER TABLE sensor_readings PARTITION BY RANGE COLUMNS (ts) ({listed})"]
    if last not in existing:
        return [f"ALTER TABLE sensor_readings ADD PARTITION ({listed})"]
    if not added:
        return []
    # Rows of the added days that are in the last partition move to the new ones.
    return [f"ALTER TABLE sensor_readings REORGANIZE PARTITION {quote_identifier(last.name)} INTO ({listed})"]


def _format_partitions(partitions: Sequence[Partition]) -> str:
    return ", ".join(
        f"PARTITION {quote_identifier(one.name)} VALUES LESS THAN ({_format_bound(one.upper_bound)})"
        for one in partitions
    )


def _format_bound(upper_bound: datetime | None) -> str:
    return "MAXVALUE" if upper_bound is None else f"'{upper_bound}'"


def _unused_name(name: str, used_names: set[str]) -> str:
    """Return a name that no partition has, because a user may have named partitions by hand. Names are not case-sensitive."""
    while name in used_names:
        name += "_"
    used_names.add(name)
    return name


def _midnight(moment: datetime) -> datetime:
    return datetime.combine(moment.date(), time())
