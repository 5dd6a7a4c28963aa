"""The histogram of latencies, against sorted lists of the same latencies."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.runtime.histogram import LatencyHistogram

HOUR = 3_600_000_000
POWERS_OF_TWO = st.integers(0, 35).map(lambda exponent: 1 << exponent)
"""Where buckets become wider: nowhere is the error larger."""
LATENCIES = st.lists(st.integers(0, 3000) | st.integers(0, 10 * HOUR) | POWERS_OF_TWO, max_size=200)
COUNTED = st.lists(st.tuples(st.integers(0, 10 * HOUR), st.integers(1, 5)), max_size=50)
PERCENTS = st.floats(0, 100) | st.sampled_from([50.0, 90.0, 99.0, 99.9, 100.0])


def histogram(latencies: Iterable[int]) -> LatencyHistogram:
    made = LatencyHistogram()
    for latency in latencies:
        made.record(latency)
    return made


@given(LATENCIES.filter(bool), PERCENTS)
def test_a_percentile_is_at_most_a_thousandth_longer_than_the_latency_of_its_rank(
    latencies: list[int], percent: float
) -> None:
    exact = sorted(latencies)[max(1, int(percent * len(latencies) / 100 + 0.5)) - 1]
    assert exact <= histogram(latencies).percentile(percent) <= exact * 1.001


@given(LATENCIES.filter(bool))
def test_the_minimum_the_maximum_the_mean_and_the_count_are_exact(latencies: list[int]) -> None:
    made = histogram(latencies)
    assert (made.minimum, made.maximum, made.count) == (min(latencies), max(latencies), len(latencies))
    assert made.mean == sum(latencies) / len(latencies)
    assert made.percentile(100) == made.maximum


@given(LATENCIES, LATENCIES)
def test_histograms_that_are_added_are_the_histogram_of_all_their_latencies(some: list[int], others: list[int]) -> None:
    made = histogram(some)
    made.add(histogram(others))
    assert made.encode() == histogram([*some, *others]).encode()


@given(COUNTED)
def test_a_latency_with_a_count_counts_that_many_times(counted: list[tuple[int, int]]) -> None:
    made = LatencyHistogram()
    for latency, count in counted:
        made.record(latency, count)
    assert made.encode() == histogram(latency for latency, count in counted for _ in range(count)).encode()


@given(LATENCIES, LATENCIES)
def test_a_histogram_decoded_from_json_continues_to_count(before: list[int], after: list[int]) -> None:
    made = LatencyHistogram.decode(json.loads(json.dumps(histogram(before).encode())))
    for latency in after:
        made.record(latency)
    assert made.encode() == histogram([*before, *after]).encode()


def test_a_histogram_without_latencies_is_all_zero() -> None:
    made = LatencyHistogram()
    assert (made.minimum, made.maximum, made.mean, made.count, made.percentile(99)) == (0, 0, 0.0, 0, 0)


def test_latencies_up_to_an_hour_fill_few_buckets() -> None:
    made = LatencyHistogram()
    for power in range(32):
        for step in range(2048):
            made.record((1 << power) + (step << power >> 11))
    assert len(made.encode()) < 3 + 2 * 24_000


@pytest.mark.parametrize(("latency", "count"), [(-1, 1), (1, 0), (1, -1)])
def test_a_negative_latency_or_count_is_rejected(latency: int, count: int) -> None:
    with pytest.raises(ValueError, match="cannot be counted"):
        LatencyHistogram().record(latency, count)


@pytest.mark.parametrize("encoded", [[], [1, 2], [1, 2, 3, 1]])
def test_numbers_that_are_not_a_histogram_are_rejected(encoded: list[int]) -> None:
    with pytest.raises(ValueError, match=r"unpack|shorter"):
        LatencyHistogram.decode(encoded)
