from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.config.sections.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("200ms", 0.2),
        ("5s", 5),
        ("2m", 120),
        ("1h", 3600),
        ("7d", 604800),
        ("1w", 604800),
        ("1m30s", 90),
        ("1h 30m", 5400),
        ("1.5s", 1.5),
        ("250us", 0.00025),
        (" 5 s ", 5),
        ("0.25", 0.25),
        ("30", 30),
        (30, 30),
        (0.5, 0.5),
        ("0", 0),
    ],
)
def test_a_duration_is_a_number_with_a_unit_or_plain_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "bad", ["", "s", "5 parsecs", "-5s", "1e3", "nan", "inf", "5s5", "5S", True, None, [], -1, float("nan"), 10**400]
)
def test_an_invalid_duration_is_refused_with_a_sentence(bad: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(bad)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("64MiB", 64 * 2**20),
        ("2GiB", 2 * 2**30),
        ("10MB", 10_000_000),
        ("10mb", 10_000_000),
        ("1.5 KiB", 1536),
        ("512", 512),
        ("512B", 512),
        (512, 512),
        (512.0, 512),
    ],
)
def test_a_size_is_a_number_with_a_unit_or_plain_bytes(text: object, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    "bad",
    ["", "MiB", "10 apples", "-1", "1e9", "nan", "9" * 400, f"{'9' * 308}.5TiB", True, None, -1, 1.5, float("inf")],
)
def test_an_invalid_size_is_refused_with_a_sentence(bad: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(bad)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "200ms"),
        (5.0, "5s"),
        (90.0, "90s"),
        (300.0, "5m"),
        (604800.0, "7d"),
        (1.5, "1500ms"),
        (0.0, "0s"),
        (1e-9, "1e-09s"),
    ],
)
def test_a_duration_is_shown_with_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(64 * 2**20, "64MiB"), (10**7, "10MB"), (1500, "1500B"), (0, "0B"), (2**30, "1GiB")]
)
def test_a_size_is_shown_with_the_largest_unit_that_fits(count: int, text: str) -> None:
    assert format_size(count) == text


@given(st.integers(min_value=0, max_value=10**9))
def test_a_shown_duration_reads_back_as_itself(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@given(st.integers(min_value=0, max_value=2**50))
def test_a_shown_size_reads_back_as_itself(count: int) -> None:
    assert parse_size(format_size(count)) == count
