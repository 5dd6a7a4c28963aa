"""Pace: how close together connections may start."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sensorsync.mqtt.subscriber.pacing import Pace


def starts_of(pace: Pace, asked: list[float]) -> list[float]:
    """When each of those who ask at these times starts, if one waits for the other."""
    starts: list[float] = []
    for at in asked:
        now = max(at, starts[-1]) if starts else at
        now += pace.due_in(now)
        pace.start(now)
        starts.append(now)
    return starts


def test_connections_that_arrive_together_start_in_groups_a_gap_apart() -> None:
    assert starts_of(Pace(4, 2.0), [10.0] * 10) == [10.0] * 4 + [12.0] * 4 + [14.0] * 2


def test_a_connection_that_arrives_alone_does_not_wait() -> None:
    assert starts_of(Pace(1, 2.0), [0.0, 2.0, 5.0]) == [0.0, 2.0, 5.0]


def test_sixty_four_take_fifteen_gaps() -> None:
    assert starts_of(Pace(4, 2.0), [0.0] * 64)[-1] == 30.0


@given(st.lists(st.integers(0, 100), max_size=60), st.integers(1, 5), st.integers(1, 10))
def test_for_any_arrivals_no_gap_has_more_starts_than_allowed_and_none_waits_longer_than_that_takes(
    asked: list[int], most: int, gap: int
) -> None:
    asked.sort()
    starts = starts_of(Pace(most, gap), [float(at) for at in asked])

    assert all(later - earlier >= gap for earlier, later in zip(starts, starts[most:], strict=False))
    for number, (at, start) in enumerate(zip(asked, starts, strict=True)):
        held_up = starts[number - most] + gap if number >= most else 0.0
        assert start == max(at, held_up)
