"""Partitions of `sensor_readings` by day: which ones there should be, and the statements that get there. Pure: no server, no clock.

RANGE COLUMNS (ts), so that the bounds are readable dates (MySQL Reference Manual, "RANGE COLUMNS partitioning"). The last partition
is LESS THAN (MAXVALUE): no row is ever without a partition (1526). The first one has no lower bound: what is older goes there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final, NamedTuple

from sensorsync.storage.mysql.migrations import quote_identifier

DAYS_AHEAD: Final = 14
"""Days after today that have a partition already: so long may the upkeep fail before rows go into the last partition."""

DAYS_BACK: Final = 366
"""No partition is made for a single day that is longer ago: a device whose clock says 1970 does not cause 20,000 of them."""

_DAY: Final = timedelta(days=1)
_PAST: Final = "p_past"
_FUTURE: Final = "p_future"


class Partition(NamedTuple):
    """One partition; its rows begin where those of the one before end."""

    name: str
    upper_bound: datetime | None
    """The `ts` (UTC, no zone) at which its rows end, itself excluded. None: MAXVALUE."""
    rows: int = 0
    """As the server estimates them."""


@dataclass(frozen=True, slots=True)
class PartitionPlan:
    """What makes the partitions those that there should be."""

    added: tuple[Partition, ...]
    dropped: tuple[Partition, ...]
    statements: tuple[str, ...]
    """In the order in which they are to be run. None: nothing is to be done."""
    resulting: tuple[Partition, ...]
    """The partitions that there are then."""


def plan_partitions(
    existing: Sequence[Partition], now: datetime, *, retain: timedelta | None = None, oldest: datetime | None = None
) -> PartitionPlan:
    """The way from the partitions that are `present`, in their order, to those that there should be at `now` (UTC, no zone).

    Without any present the table is to be partitioned. `oldest` is the oldest row of a table that has no bound yet, None when there
    is none. With `retain` the partitions that end at or before `now - retain` go; there is one for today by then, so they are never
    all of them.
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
    elif start < first:  # nobody looked after the table for long: one partition for all that time
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
    """A `partition_description` of information_schema: `'2026-01-02'`, as it was written, or MAXVALUE. ValueError for others."""
    return None if description == "MAXVALUE" else datetime.fromisoformat(description.strip("'"))


def _daily_partitions(start: datetime, end: datetime, used_names: set[str]) -> list[Partition]:
    """One partition for each day from `start` to `end`; the first is shorter where `start` is no midnight."""
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
    # What the last one holds of the added days moves to them.
    return [f"ALTER TABLE sensor_readings REORGANIZE PARTITION {quote_identifier(last.name)} INTO ({listed})"]


def _format_partitions(partitions: Sequence[Partition]) -> str:
    return ", ".join(
        f"PARTITION {quote_identifier(one.name)} VALUES LESS THAN ({_format_bound(one.upper_bound)})"
        for one in partitions
    )


def _format_bound(upper_bound: datetime | None) -> str:
    return "MAXVALUE" if upper_bound is None else f"'{upper_bound}'"


def _unused_name(name: str, used_names: set[str]) -> str:
    """A name that no partition has: somebody may have named theirs in another way. Names know no case."""
    while name in used_names:
        name += "_"
    used_names.add(name)
    return name


def _midnight(moment: datetime) -> datetime:
    return datetime.combine(moment.date(), time())
