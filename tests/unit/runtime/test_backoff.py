"""Delays between attempts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.runtime.backoff import Backoff


def test_the_delays_double_up_to_the_maximum_and_restart_after_a_success() -> None:
    backoff = Backoff(0.1, 1.0, random_unit=lambda: 1.0)

    assert [backoff.next_delay() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    backoff.reset()
    assert backoff.next_delay() == pytest.approx(0.1)


@given(st.floats(0.001, 10), st.floats(10, 1000), st.integers(1, 2000))
def test_every_delay_lies_between_half_the_step_and_the_maximum(minimum: float, maximum: float, attempts: int) -> None:
    backoff = Backoff(minimum, maximum)
    delay = [backoff.next_delay() for _ in range(min(attempts, 50))][-1]

    assert minimum / 2 <= delay <= maximum
