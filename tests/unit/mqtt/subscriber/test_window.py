"""WindowEstimate: what a broker's delivery window is, seen from its stops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.mqtt.subscriber.window import REPEATS_REQUIRED, WindowEstimate, auto_links, links_required


@pytest.mark.parametrize(
    ("window", "demand", "most", "links"),
    [
        (65535, 4000, 64, 1),
        (4000, 4000, 64, 1),
        (1000, 4000, 64, 4),
        (32, 4000, 64, 64),
        (32, 100, 64, 4),
        (1, 5, 3, 3),
    ],
)
def test_as_many_links_as_the_demand_needs(window: int, demand: int, most: int, links: int) -> None:
    assert links_required(window, demand, most) == links


@pytest.mark.parametrize(
    ("window", "demand", "most", "links"),
    [
        (65535, 4000, 64, 16),
        (1000, 4000, 64, 16),
        (100, 4000, 64, 40),
        (32, 4000, 64, 64),
        (65535, 4000, 4, 4),
        (32, 4000, 4, 4),
    ],
)
def test_auto_has_sixteen_links_at_least_however_wide_the_window_is_and_never_more_than_allowed(
    window: int, demand: int, most: int, links: int
) -> None:
    assert auto_links(window, demand, most) == links


def test_a_link_that_stops_at_one_count_and_refills_at_once_shows_its_window() -> None:
    estimate = WindowEstimate(65535)

    lowered = [
        estimate.record_ack(0, in_flight=20, refilled_at_once=number > 0) for number in range(REPEATS_REQUIRED + 1)
    ]

    assert lowered == [False] * REPEATS_REQUIRED + [True]
    assert estimate.window == 20


def test_a_small_count_that_does_not_refill_at_once_is_an_idle_link() -> None:
    estimate = WindowEstimate(65535)

    assert not any(estimate.record_ack(0, in_flight=20, refilled_at_once=False) for _ in range(100))
    assert estimate.window == 65535


def test_single_messages_are_a_slow_stream_and_not_a_window() -> None:
    estimate = WindowEstimate(65535)

    assert not any(estimate.record_ack(0, in_flight=1, refilled_at_once=True) for _ in range(100))


def test_the_estimate_only_goes_down() -> None:
    estimate = WindowEstimate(32)

    assert not any(estimate.record_ack(0, in_flight=50, refilled_at_once=True) for _ in range(100))
    assert estimate.window == 32


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 64), st.booleans()), max_size=200))
def test_for_any_history_the_estimate_never_rises(history: list[tuple[int, int, bool]]) -> None:
    estimate = WindowEstimate(40)
    before = estimate.window
    for link, in_flight, refilled in history:
        lowered = estimate.record_ack(link, in_flight=in_flight, refilled_at_once=refilled)
        assert lowered == (estimate.window < before)
        assert estimate.window <= before
        before = estimate.window
