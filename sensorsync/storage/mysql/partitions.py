"""Partitions of `sensor_readings` by day: which ones there should be, and the statements that get there. Pure: no server, no clock.

RANGE COLUMNS (ts), so that the bounds are readable dates (MySQL Reference Manual, "RANGE COLUMNS partitioning"). The last partition
is LESS THAN (MAXVALUE): no row is ever without a partition (1526). The first one has no lower bound: what is older goes there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final, NamedTuple

from sensorsync.storage.mysql.migrations import quoted_name

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
    below: datetime | None
    """The `ts` (UTC, no zone) at which its rows end, itself excluded. None: MAXVALUE."""
    rows: int = 0
    """As the server estimates them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What makes the partitions those that there should be."""

    added: tuple[Partition, ...]
    dropped: tuple[Partition, ...]
    statements: tuple[str, ...]
    """In the order in which they are to be run. None: nothing is to be done."""
    after: tuple[Partition, ...]
    """The partitions that there are then."""


def plan(
    present: Sequence[Partition], now: datetime, *, retain: timedelta | None = None, oldest: datetime | None = None
) -> Plan:
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
    bounded = [one for one in present if one.below is not None]
    taken = {one.name.lower() for one in present}
    start = bounded[-1].below if bounded else None
    if start is None:
        start = min(max(first, _midnight(oldest)), today) if oldest else today
        added = [Partition(_free(_PAST, taken), start)]
    elif start < first:  # nobody looked after the table for long: one partition for all that time
        added = [Partition(_free(f"p{start:%Y%m%d}_{first - _DAY:%Y%m%d}", taken), first)]
        start = first
    else:
        added = []
    added += _days(start, today + (DAYS_AHEAD + 1) * _DAY, taken)
    last = present[-1] if present and present[-1].below is None else Partition(_free(_FUTURE, taken), None)
    kept = [*bounded, *added, last]
    statements = _extending(present, added, last)
    dropped = [one for one in kept if cutoff and one.below and one.below <= cutoff]
    if dropped:
        names = ", ".join(quoted_name(one.name) for one in dropped)
        statements.append(f"ALTER TABLE sensor_readings DROP PARTITION {names}")
    return Plan(tuple(added), tuple(dropped), tuple(statements), tuple(one for one in kept if one not in dropped))


def bound(description: str) -> datetime | None:
    """A `partition_description` of information_schema: `'2026-01-02'`, as it was written, or MAXVALUE. ValueError for others."""
    return None if description == "MAXVALUE" else datetime.fromisoformat(description.strip("'"))


def _days(start: datetime, end: datetime, taken: set[str]) -> list[Partition]:
    """One partition for each day from `start` to `end`; the first is shorter where `start` is no midnight."""
    days = []
    while start < end:
        below = _midnight(start) + _DAY
        days.append(Partition(_free(f"p{start:%Y%m%d}", taken), below))
        start = below
    return days


def _extending(present: Sequence[Partition], added: Sequence[Partition], last: Partition) -> list[str]:
    listed = _listed([*added, last])
    if not present:
        return [f"ALTER TABLE sensor_readings PARTITION BY RANGE COLUMNS (ts) ({listed})"]
    if last not in present:
        return [f"ALTER TABLE sensor_readings ADD PARTITION ({listed})"]
    if not added:
        return []
    # What the last one holds of the added days moves to them.
    return [f"ALTER TABLE sensor_readings REORGANIZE PARTITION {quoted_name(last.name)} INTO ({listed})"]


def _listed(partitions: Sequence[Partition]) -> str:
    return ", ".join(
        f"PARTITION {quoted_name(one.name)} VALUES LESS THAN ({_bound_of(one.below)})" for one in partitions
    )


def _bound_of(below: datetime | None) -> str:
    return "MAXVALUE" if below is None else f"'{below}'"


def _free(name: str, taken: set[str]) -> str:
    """A name that no partition has: somebody may have named theirs in another way. Names know no case."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _midnight(moment: datetime) -> datetime:
    return datetime.combine(moment.date(), time())
