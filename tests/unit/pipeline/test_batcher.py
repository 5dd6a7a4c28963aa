"""The batcher: when a batch is due, and which deliveries it has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.pipeline.batcher import Batch, Batcher
from sensorsync.pipeline.contract import Delivery, FlushReason


def deliveries(count: int, start: int = 0) -> list[Delivery]:
    return [Delivery("t", str(number).encode(), 0, 0.0, None) for number in range(start, start + count)]


def left(batch: Batch | None) -> tuple[int, FlushReason]:
    assert batch is not None
    return len(batch.deliveries), batch.reason


def test_a_full_batch_is_due_even_if_no_writer_is_free() -> None:
    batcher = Batcher(3, 0.2)
    batcher.add(deliveries(4), 0.0)

    assert left(batcher.take(0.0, writer_free=False, input_drained=False)) == (3, FlushReason.FULL)
    assert batcher.take(0.0, writer_free=False, input_drained=False) is None
    assert len(batcher) == 1


def test_a_small_batch_is_due_at_once_when_a_writer_is_free_and_the_input_is_drained() -> None:
    batcher = Batcher(1000, 0.2)
    batcher.add(deliveries(20), 0.0)

    assert batcher.take(0.0, writer_free=False, input_drained=True) is None
    assert batcher.take(0.0, writer_free=True, input_drained=False) is None
    assert left(batcher.take(0.0, writer_free=True, input_drained=True)) == (20, FlushReason.STALLED)


def test_in_a_stream_that_never_pauses_the_oldest_waits_for_the_timeout_at_most() -> None:
    batcher = Batcher(1000, 0.2)
    batcher.add(deliveries(1), 10.0)
    batcher.add(deliveries(1), 10.15)

    assert batcher.take(10.19, writer_free=True, input_drained=False) is None
    assert batcher.due_in(10.19) == pytest.approx(0.01)
    assert left(batcher.take(10.2, writer_free=True, input_drained=False)) == (2, FlushReason.LINGER)
    assert batcher.due_in(10.2) is None


def test_remaining_deliveries_keep_their_arrival_time() -> None:
    batcher = Batcher(3, 1.0)
    batcher.add(deliveries(2), 0.0)
    batcher.add(deliveries(2), 0.5)

    batcher.take(0.5, writer_free=False, input_drained=False)

    assert batcher.due_in(0.5) == pytest.approx(1.0)


def test_when_stopping_every_delivery_is_batched() -> None:
    batcher = Batcher(3, 1.0)
    batcher.add(deliveries(4), 0.0)

    assert left(batcher.take(0.0, writer_free=False, input_drained=False, stopping=True)) == (3, FlushReason.FULL)
    assert left(batcher.take(0.0, writer_free=False, input_drained=False, stopping=True)) == (1, FlushReason.DRAIN)
    assert batcher.take(0.0, writer_free=True, input_drained=True, stopping=True) is None


@given(
    st.integers(1, 7),
    st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1), st.booleans(), st.booleans()), max_size=50),
)
def test_for_any_schedule_every_delivery_is_batched_once_in_order_and_within_the_size(
    size: int, steps: list[tuple[int, float, bool, bool]]
) -> None:
    batcher = Batcher(size, 0.5)
    now, came = 0.0, 0
    out: list[Delivery] = []
    for count, passed, writer_free, drained in steps:
        now += passed
        batcher.add(deliveries(count, came), now)
        came += count
        batch = batcher.take(now, writer_free=writer_free, input_drained=drained)
        if batch is not None:
            assert 1 <= len(batch.deliveries) <= size
            out += batch.deliveries
        elif len(batcher) and writer_free:
            due = batcher.due_in(now)
            assert due is not None
            assert due > 0
            assert not drained
    while (batch := batcher.take(now, writer_free=False, input_drained=False, stopping=True)) is not None:
        out += batch.deliveries
    assert out == deliveries(came)
