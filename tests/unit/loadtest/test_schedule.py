"""When messages are due: evenly over all clients, never early, and counted from then."""

from __future__ import annotations

import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.loadtest import GeneratedMessages, Run, Schedule

RUN = "r20261124-2015-ab12"
START = 1_800_000_000.0


def seqs(payloads: list[bytes]) -> list[int]:
    return [orjson.loads(payload)["seq"] for payload in payloads]


@given(st.integers(1, 40), st.integers(1, 300), st.floats(0.01, 1e6))
def test_the_messages_of_all_clients_together_are_spread_evenly(clients: int, messages: int, rate: float) -> None:
    run, pace = Run("r", messages, clients), Schedule(clients, rate, start=START)
    due = sorted(pace.due_at(client, seq) for client in range(clients) for seq in range(run.message_count(client)))
    assert due == pytest.approx([START + index / rate for index in range(messages)], rel=1e-12)


@given(
    st.integers(1, 5),
    st.floats(1, 1e4),
    st.floats(0, 2),
    st.lists(st.tuples(st.floats(0, 0.05), st.integers(1, 128)), max_size=60),
)
def test_no_message_is_taken_before_it_is_due_and_none_is_left_out(
    clients: int, rate: float, ramp: float, steps: list[tuple[float, int]]
) -> None:
    run, pace = Run("r", 200, clients), Schedule(clients, rate, ramp, START)
    feed = GeneratedMessages(run, client := clients - 1, pace)
    now, taken = START, 0
    for step, limit in [*steps, (1e6, run.messages)]:
        now += step
        payloads, since = feed.take(limit, now)
        due = [pace.due_at(client, taken + index) for index in range(len(payloads))]
        assert list(since) == due
        assert all(at <= now for at in due)
        assert seqs(payloads) == list(range(taken, taken + len(payloads)))
        taken += len(payloads)
        if not feed.exhausted and len(payloads) < limit:
            assert feed.due_in(now) == pace.due_at(client, taken) - now > 0
    assert feed.exhausted
    assert taken == run.message_count(client)


def test_the_time_of_a_reading_is_when_it_was_due_not_when_it_left_late() -> None:
    feed = GeneratedMessages(Run(RUN, 3, 1), 0, Schedule(1, 2.0, start=START))
    payloads, since = feed.take(10, START + 60)
    readings = [orjson.loads(payload) for payload in payloads]
    assert [reading["ts"][17:] for reading in readings] == ["00.000000Z", "00.500000Z", "01.000000Z"]
    assert [int(reading["event_id"].replace("-", "")[:12], 16) for reading in readings] == [
        round(at * 1000) for at in (START, START + 0.5, START + 1)
    ]
    assert list(since) == [START, START + 0.5, START + 1]


@given(st.floats(0.1, 1e5), st.floats(0.1, 100))
def test_on_a_ramp_the_rate_grows_in_a_straight_line(rate: float, ramp: float) -> None:
    pace = Schedule(1, rate, ramp, start=0.0)
    halfway, whole = rate * ramp / 8, rate * ramp / 2  # half of the time at a quarter of the rate, on average
    for index, seconds in ((halfway, ramp / 2), (whole, ramp), (whole + rate, ramp + 1)):
        before, after = pace.due_at(0, int(index)), pace.due_at(0, int(index) + 1)
        assert before <= seconds * (1 + 1e-9)
        assert after >= seconds * (1 - 1e-9)
    due = [pace.due_at(0, seq) for seq in range(200)]
    assert due[0] == 0
    assert all(first < second for first, second in itertools.pairwise(due))


def test_in_a_closed_loop_a_ramp_lets_the_clients_begin_one_by_one() -> None:
    run, pace = Run(RUN, 40, 4), Schedule(4, ramp=8.0, start=START)
    feeds = [GeneratedMessages(run, client, pace) for client in range(4)]
    assert [feed.due_in(START) for feed in feeds] == [0.0, 2.0, 4.0, 6.0]
    assert [len(feed.take(3, START + 5).payloads) for feed in feeds] == [3, 3, 3, 0]
    payloads, since = feeds[0].take(2, START + 5)
    assert seqs(payloads) == [3, 4]
    assert list(itertools.islice(since, 2)) == [START + 5, START + 5]


def test_what_is_asked_for_before_the_start_is_due_at_once_and_the_rest_keeps_its_times() -> None:
    pace = Schedule(2, 1.0)
    feed = GeneratedMessages(Run(RUN, 10, 2), 0, pace)
    probe, since = feed.take(1, START - 9)
    assert seqs(probe) == [0]
    assert next(iter(since)) == START - 9
    pace.start = START
    assert feed.take(9, START + 1.9).payloads == []
    assert feed.due_in(START) == 2.0
    assert seqs(feed.take(9, START + 2).payloads) == [1]
