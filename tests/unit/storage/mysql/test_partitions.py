"""Which partitions there should be on a given day, and the way there."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.errors import DatabaseError
from sensorsync.storage.mysql.partition_maintenance import check_clocks
from sensorsync.storage.mysql.partitions import DAYS_AHEAD, DAYS_BACK, Partition, parse_bound, plan_partitions


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


NOW = at("2026-03-10 15:30")
TODAY = at("2026-03-10")
DAY = timedelta(days=1)
FUTURE = Partition("p_future", None)


def names(partitions: tuple[Partition, ...]) -> list[str]:
    return [one.name for one in partitions]


def test_an_empty_table_gets_one_partition_for_all_that_is_past_and_one_for_each_day_to_come() -> None:
    made = plan_partitions([], NOW)
    assert names(made.resulting)[:3] == ["p_past", "p20260310", "p20260311"]
    assert names(made.resulting)[-2:] == ["p20260324", "p_future"]
    assert len(made.resulting) == 1 + 1 + DAYS_AHEAD + 1
    (statement,) = made.statements
    assert statement.startswith(
        "ALTER TABLE sensor_readings PARTITION BY RANGE COLUMNS (ts) (PARTITION `p_past` VALUES LESS THAN ('2026-03-10 00:00:00'), "
    )
    assert statement.endswith("PARTITION `p_future` VALUES LESS THAN (MAXVALUE))")


@pytest.mark.parametrize(
    ("oldest", "retain", "first_day"),
    [
        ("2026-03-08 23:59:59.999999", None, "p20260308"),
        ("1999-01-01", None, "p20250309"),  # DAYS_BACK
        ("2026-01-01", 30, "p20260208"),
        ("2026-03-09", 30, "p20260309"),
        ("2026-05-01", None, "p20260310"),
    ],
)
def test_a_table_with_rows_gets_a_partition_for_each_day_that_is_kept(
    oldest: str, retain: int | None, first_day: str
) -> None:
    made = plan_partitions([], NOW, oldest=at(oldest), retain=timedelta(days=retain) if retain else None)
    assert names(made.added)[:2] == ["p_past", first_day]


DAILY = [
    Partition("p_past", at("2026-03-01")),
    Partition("p20260301", at("2026-03-02")),
    Partition("p20260302", at("2026-03-03")),
    *(Partition(f"p{TODAY + n * DAY:%Y%m%d}", TODAY + (n + 1) * DAY) for n in range(-7, DAYS_AHEAD + 1)),
    FUTURE,
]


@pytest.mark.parametrize(
    ("now", "retain", "added", "dropped"),
    [
        ("2026-03-10 00:00:00", None, [], []),
        ("2026-03-10 23:59:59", None, [], []),
        ("2026-03-11 00:00:00", None, ["p20260325"], []),
        ("2026-03-13 12:00:00", None, ["p20260325", "p20260326", "p20260327"], []),
        # p20260301 ends at 03-02 00:00: its last row is 7 days old one moment before 03-09.
        ("2026-03-08 23:59:59", 7, [], ["p_past"]),
        ("2026-03-09 00:00:00", 7, [], ["p_past", "p20260301"]),
        ("2026-03-10 12:00:00", 90, [], []),
        ("2026-03-12 00:00:00", 10, ["p20260325", "p20260326"], ["p_past", "p20260301"]),
    ],
)
def test_days_come_and_days_go(now: str, retain: int | None, added: list[str], dropped: list[str]) -> None:
    made = plan_partitions(DAILY, at(now), retain=timedelta(days=retain) if retain else None)
    assert (names(made.added), names(made.dropped)) == (added, dropped)
    assert len(made.statements) == bool(added) + bool(dropped)


def test_the_days_are_added_before_others_are_dropped_and_the_last_partition_keeps_its_name() -> None:
    by_hand = [Partition("first", at("2026-03-01")), Partition("rest`", None)]
    made = plan_partitions(by_hand, NOW, retain=5 * DAY)
    assert made.statements[0].startswith(
        "ALTER TABLE sensor_readings REORGANIZE PARTITION `rest``` INTO (PARTITION `p20260301_20260304` VALUES LESS THAN"
    )
    assert made.statements[0].endswith("PARTITION `rest``` VALUES LESS THAN (MAXVALUE))")
    assert made.statements[1] == "ALTER TABLE sensor_readings DROP PARTITION `first`, `p20260301_20260304`"


def test_a_table_whose_last_partition_has_a_bound_gets_one_without() -> None:
    made = plan_partitions([Partition("p0", at("2026-03-24"))], NOW)
    assert names(made.added) == ["p20260324"]
    assert made.statements[0].startswith("ALTER TABLE sensor_readings ADD PARTITION (PARTITION `p20260324`")
    assert made.resulting[-1] == FUTURE


def test_partitions_of_other_names_and_bounds_are_gone_on_from() -> None:
    # Theirs is named after the end of its day: the next of ours would be called the same.
    made = plan_partitions([Partition("P20260323", at("2026-03-23 06:00")), FUTURE], NOW)
    assert [(one.name, one.upper_bound) for one in made.added] == [
        ("p20260323_", at("2026-03-24")),
        ("p20260324", at("2026-03-25")),
    ]


def test_bounds_are_read_as_the_server_writes_them() -> None:
    assert parse_bound("'2026-11-02'") == at("2026-11-02")
    assert parse_bound("'2026-11-02 00:00:00'") == at("2026-11-02")
    assert parse_bound("MAXVALUE") is None


def test_nothing_is_dropped_by_a_clock_that_is_wrong() -> None:
    check_clocks(NOW, NOW + timedelta(minutes=59))
    for wrong in (NOW + timedelta(minutes=61), NOW - timedelta(minutes=61), at("1970-01-01"), at("2099-01-01")):
        with pytest.raises(DatabaseError, match="clock"):
            check_clocks(wrong, NOW)
        with pytest.raises(DatabaseError, match="clock"):
            check_clocks(NOW, wrong)


moments = st.datetimes(at("2020-01-01"), at("2030-01-01"))


@given(
    start=moments,
    steps=st.lists(st.timedeltas(timedelta(0), timedelta(days=800)), min_size=1, max_size=5),
    retain=st.none() | st.timedeltas(DAY, timedelta(days=900)),
    oldest=st.none() | moments,
    by_hand=st.none() | st.lists(moments, min_size=1, max_size=5, unique=True).map(sorted),
    ended=st.booleans(),
)
def test_however_often_it_runs_each_row_has_its_place_and_none_goes_too_early(
    start: datetime,
    steps: list[timedelta],
    retain: timedelta | None,
    oldest: datetime | None,
    by_hand: list[datetime] | None,
    ended: bool,
) -> None:
    present = tuple(Partition(f"h{n}", below) for n, below in enumerate(by_hand or []))
    if by_hand and ended:
        present += (FUTURE,)
    now = start
    for step in steps:
        now += step
        before, made = present, plan_partitions(present, now, retain=retain, oldest=oldest)
        present = made.resulting
        bounds = [one.upper_bound for one in present]
        # In order, the last one without a bound, the names their own; a partition for today and each day ahead.
        assert bounds.pop() is None
        assert all(one and other and one < other for one, other in itertools.pairwise(bounds))
        assert len({one.name for one in present}) == len(present)
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        wanted = {today + n * DAY for n in range(1, DAYS_AHEAD + 2)}
        assert {one for one in wanted if not by_hand or one > by_hand[-1]} <= set(bounds)
        # What is there stays as it is, or goes as a whole: only when its last row is old enough, and then at once.
        assert {one for one in before if one.upper_bound} <= {*present, *made.dropped}
        for one in {*present, *made.dropped}:
            gone = retain is not None and one.upper_bound is not None and one.upper_bound <= now - retain
            assert gone == (one in made.dropped)
        assert len(made.added) <= DAYS_BACK + DAYS_AHEAD + 2
        # And then there is nothing to do.
        assert plan_partitions(present, now, retain=retain, oldest=oldest).statements == ()
