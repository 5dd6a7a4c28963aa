"""Suspects: when a message that may be at fault is tried again, and when it is parked. Time is an argument."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sensorsync.pipeline.contract import Delivery
from sensorsync.pipeline.suspects import Suspect, Suspects, TransactionSize

MESSAGE = Delivery("t", b"x", 1, 0.0, None)


def only(suspects: Suspects, now: float) -> Suspect:
    (suspect,) = suspects.due(now, 10)
    return suspect


def judged(suspects: Suspects, tries: list[bool], errno: int = 1644) -> float | None:
    """Try one message until it is parked; return when. Each try: True when another row was accepted."""
    now = 0.0
    suspects.add(MESSAGE, errno, now, other_row_accepted=tries[0])
    for accepted in tries[1:]:
        due_in = suspects.due_in(now)
        assert due_in is not None
        now += due_in
        suspect = only(suspects, now)
        if not accepted:
            suspects.record_outage(suspect, now)
        elif suspects.record_refusal(suspect, errno, now):
            return now
    return None


def test_a_message_that_is_always_refused_while_others_are_accepted_is_parked_after_half_a_minute() -> None:
    suspects = Suspects()
    parked = judged(suspects, [True] * 20)
    assert parked is not None
    assert 30 <= parked <= 40
    again = judged(suspects, [True] * 20)
    assert again is not None
    assert 4 <= again <= 6, "the number is known to be about rows"


def test_a_number_with_which_a_row_was_refused_that_is_stored_later_is_no_longer_known() -> None:
    suspects = Suspects()
    judged(suspects, [True] * 20)
    assert 1644 in suspects.known
    suspects.add(MESSAGE, 1644, 0.0, other_row_accepted=True)
    suspects.record_stored(only(suspects, 10.0))
    assert 1644 not in suspects.known
    assert len(suspects) == 0
    assert suspects.due_in(0.0) is None


@given(st.lists(st.booleans(), min_size=2, max_size=60))
def test_nothing_is_parked_without_ten_refusals_in_a_row_over_half_a_minute(tries: list[bool]) -> None:
    parked = judged(Suspects(), tries)
    runs = "".join("x" if accepted else " " for accepted in tries).split()
    assert parked is None or (parked >= 30 and max(map(len, runs)) >= 10)


@given(st.integers(1, 60))
def test_tries_in_an_outage_come_less_and_less_often_but_never_stop(outages: int) -> None:
    suspects = Suspects()
    suspects.add(MESSAGE, 1644, 0.0, other_row_accepted=False)
    now = 0.0
    for _ in range(outages):
        due_in = suspects.due_in(now)
        assert due_in is not None
        assert due_in <= 30
        now += due_in
        suspects.record_outage(only(suspects, now), now)


def test_the_same_message_delivered_twice_is_two_suspects() -> None:
    suspects = Suspects()
    for message in (MESSAGE, Delivery(*MESSAGE)):
        suspects.add(message, 1644, 0.0, other_row_accepted=True)
    assert len(suspects) == 2


def test_a_transaction_size_is_halved_remembered_and_doubled_after_a_while() -> None:
    size = TransactionSize(remember=60)
    assert size.limit(1000, 0.0) == 1000
    size.record_too_large(1000, 0.0)
    size.record_too_large(500, 1.0)
    assert size.limit(1000, 60.0) == 250
    assert size.limit(100, 60.0) == 100
    assert size.limit(1000, 61.0) == 500
    assert size.limit(1000, 122.0) == 1000
    size.record_too_large(2, 130.0)
    assert size.limit(5, 131.0) == 1
    size.forget()
    assert size.limit(5, 131.0) == 5
