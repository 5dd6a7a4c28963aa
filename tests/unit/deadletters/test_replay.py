"""Replay: what is stored leaves the box, what is refused stays with one attempt more, and an outage changes nothing."""

from __future__ import annotations

import asyncio
import json
import threading
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.deadletters import Criteria, DeadLetters, StoredLetter
from sensorsync.deadletters.letters import MAX_HISTORY
from sensorsync.deadletters.lock import replay_lock
from sensorsync.deadletters.replay import MAX_BATCH_RETRIES, NullDeadLetterQueue, RateLimiter, Replay, RetryPolicy
from sensorsync.errors import AlreadyRunningError
from sensorsync.pipeline import contract as pipeline
from sensorsync.pipeline.contract import (
    BatchRejected,
    DeadLetter,
    Decoder,
    Delivery,
    Reading,
    Rejected,
    Row,
    RowSuspected,
    SinkMisconfigured,
    SinkUnavailable,
)
from sensorsync.pipeline.suspects import SuspectLimits
from sensorsync.pipeline.writer import BatchKept, BatchWriter, RejectionBreaker
from sensorsync.runtime.backoff import Backoff
from sensorsync.runtime.shutdown import GracefulShutdown
from sensorsync.storage.sqlite.store import SqliteStore
from tests.rows import reading

NOW = 1_767_322_800.0
POLICY = RetryPolicy(max_attempts=3, backoff_min=60, backoff_max=100)


class Sink:
    """Takes readings, refuses those of `poison`, and fails as told before it takes more."""

    def __init__(self, *failures: Exception, poison: Sequence[int] = ()) -> None:
        self.failures = list(failures)
        self.poison = {f'"n{number}"' for number in poison}
        self.rows: list[Reading] = []

    def write(self, rows: Sequence[Row]) -> int:
        if self.failures:
            raise self.failures.pop(0)
        readings = [row for row in rows if isinstance(row, Reading)]
        if any(row.payload in self.poison for row in readings):
            raise BatchRejected("no", errno=4025)
        self.rows += readings
        return len(readings)

    def close(self) -> None:
        pass


def decode(delivery: Delivery) -> Reading | Rejected:
    text = delivery.payload.decode(errors="replace")
    if not text.startswith("n"):
        return Rejected("json", "still not JSON")
    return reading(int(text[1:]))._replace(payload=json.dumps(text), received_at=delivery.received_at)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[DeadLetters]:
    box = DeadLetters(tmp_path / "box.sqlite")
    box.open()
    yield box
    box.close()


def park(box: DeadLetters, *payloads: bytes, reason: str = "signature") -> None:
    box.park([DeadLetter("t", payload, 1, None, reason, None, "why", NOW - 10) for payload in payloads])


def replay_of(box: DeadLetters, now: float = NOW, **options: object) -> Replay:
    numbers = box.ids(Criteria(state="parked"), due=now)
    words: dict[str, object] = {"batch_size": 10, "batch_bytes": 10**6, **options}
    return Replay(box, numbers, POLICY, clock=lambda: now, **words)  # type: ignore[arg-type]


def writer(replay: Replay, sink: pipeline.Sink, decoder: Decoder = decode) -> BatchWriter:
    return BatchWriter(
        0,
        sink,
        NullDeadLetterQueue(),
        decoder,
        backoff=Backoff(0.001, 0.001),
        pause=replay.wait_before_retry,
        breaker=RejectionBreaker(10**9),
    )


def run(box: DeadLetters, sink: Sink, now: float = NOW, **options: object) -> Replay:
    replay = replay_of(box, now, **options)
    replay.run_worker(writer(replay, sink))
    return replay


def all_letters(box: DeadLetters) -> list[StoredLetter]:
    return list(box.letters())


def test_stored_letters_leave_the_box_and_rejected_ones_stay_with_one_attempt_more(box: DeadLetters) -> None:
    park(box, *(b"n%d" % number for number in range(25)), b"junk")
    sink = Sink(poison=[7])
    tally = run(box, sink).tally
    assert (tally.stored, tally.rejected, tally.quarantined) == (24, 2, 0)
    assert dict(tally.reasons) == {"database": 1, "json": 1}
    junk, poison = all_letters(box)
    assert (junk.reason, junk.message, junk.errno, junk.attempts) == ("json", "still not JSON", None, 1)
    assert (poison.reason, poison.errno, poison.attempts, poison.refused_at) == ("database", 4025, 1, NOW)
    assert poison.history == [{"at": NOW - 10, "attempt": 0, "reason": "signature", "errno": None, "message": "why"}]
    assert len(sink.rows) == 24
    # it arrived when it first arrived, so a redelivery stays the later one
    assert {row.received_at for row in sink.rows} == {NOW - 10}


def test_a_letter_waits_longer_after_each_attempt_and_is_given_up_after_the_last(box: DeadLetters) -> None:
    park(box, b"junk")
    waits = []
    now = NOW
    for _ in range(2):
        run(box, Sink(), now)
        (letter,) = all_letters(box)
        waits.append(letter.next_retry_at - now)
        assert run(box, Sink(), letter.next_retry_at - 1).tally.attempted == 0, "it is not due yet"
        now = letter.next_retry_at
    assert waits == [60, 100]
    assert run(box, Sink(), now).tally.quarantined == 1
    (letter,) = all_letters(box)
    assert (letter.state, letter.attempts) == ("quarantined", 3)
    assert [past["attempt"] for past in letter.history] == [0, 1, 2]
    assert run(box, Sink(), now + 10**6).tally.attempted == 0
    # And: released, it begins anew.
    assert box.release(Criteria(state="quarantined")) == 1
    assert run(box, Sink(), now).tally.rejected == 1
    assert all_letters(box)[0].attempts == 1


def test_a_history_has_an_end(box: DeadLetters) -> None:
    park(box, b"junk")
    for turn in range(MAX_HISTORY + 5):
        box.release(Criteria())
        run(box, Sink(), NOW + turn)
    assert len(all_letters(box)[0].history) == MAX_HISTORY


def test_an_outage_stops_it_and_every_letter_stays_as_it_was(box: DeadLetters) -> None:
    park(box, *(b"n%d" % number for number in range(30)), b"junk")
    before = all_letters(box)
    replay = replay_of(box)
    sink = Sink(*[SinkUnavailable("gone", errno=2006)] * (MAX_BATCH_RETRIES + 1))
    with pytest.raises(BatchKept):
        replay.run_worker(writer(replay, sink))
    assert all_letters(box) == before
    assert sink.failures == []


def test_a_crash_between_commit_and_box_leaves_letters_whose_next_replay_changes_nothing(
    box: DeadLetters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given: the rows are committed, and then it is over.
    park(box, *(b"n%d" % number for number in range(10)), b"junk")
    before = all_letters(box)
    store = SqliteStore(tmp_path / "readings.sqlite")
    store.migrate()
    with monkeypatch.context() as crashing:
        crashing.setattr(DeadLetters, "finish_batch", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            replay_into(box, store.create_sink(0))
    assert store.count_run_rows("run") == 10
    assert all_letters(box) == before
    # When: the next replay comes.
    tally = replay_into(box, store.create_sink(0)).tally
    # Then: no row is there twice, no letter is left, no attempt is counted twice.
    assert (tally.stored, tally.redelivered_rows, store.count_run_rows("run")) == (10, 10, 10)
    assert [letter.attempts for letter in all_letters(box)] == [1]


def replay_into(box: DeadLetters, sink: pipeline.Sink) -> Replay:
    replay = replay_of(box)
    working = writer(replay, sink)
    try:
        replay.run_worker(working)
    finally:
        working.close()
    return replay


def test_a_missing_table_stops_it_and_every_letter_stays_as_it_was(box: DeadLetters) -> None:
    park(box, b"n1", b"junk")
    before = all_letters(box)
    replay = replay_of(box)
    with pytest.raises(SinkMisconfigured):
        replay.run_worker(writer(replay, Sink(SinkMisconfigured("no table", errno=1146))))
    assert all_letters(box) == before


def test_a_lock_wait_is_survived(box: DeadLetters) -> None:
    park(box, b"n1")
    assert run(box, Sink(*[SinkUnavailable("lock wait", errno=1205)] * MAX_BATCH_RETRIES)).tally.stored == 1


def test_one_that_fails_stops_the_others(box: DeadLetters) -> None:
    park(box, *(b"n%d" % number for number in range(30)))
    replay = replay_of(box)
    with pytest.raises(SinkMisconfigured):
        replay.run_worker(writer(replay, Sink(SinkMisconfigured("no table"))))
    replay.run_worker(writer(replay, Sink()))
    assert (replay.tally.attempted, replay.remaining) == (0, 20)


def test_a_thousand_refused_in_a_row_are_no_systemic_failure(box: DeadLetters) -> None:
    park(box, *(b"n%d" % number for number in range(300)))
    assert run(box, Sink(poison=range(300))).tally.rejected == 300


def test_a_broken_packet_is_refused_again_as_such_whatever_is_in_it(box: DeadLetters) -> None:
    park(box, b"n1", reason="mqtt")
    sink = Sink()
    assert dict(run(box, sink).tally.reasons) == {"mqtt": 1}
    (letter,) = all_letters(box)
    assert (letter.reason, letter.message, sink.rows) == ("mqtt", "why", [])


def test_a_decoder_that_breaks_refuses_one_letter(box: DeadLetters) -> None:
    park(box, b"n1", b"nan")
    tally = run(box, Sink()).tally
    assert (tally.stored, dict(tally.reasons)) == (1, {"internal": 1})


def test_letters_are_taken_a_bounded_number_of_bytes_at_once(box: DeadLetters) -> None:
    park(box, *(b"n%0400d" % number for number in range(10)))
    batches = []
    replay = replay_of(box, batch_bytes=1000)
    while taken := replay._next_batch().letters:
        batches.append([letter.id for letter in taken])
    assert batches == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    replay = replay_of(box, batch_bytes=1)
    assert len(replay._next_batch().letters) == 1, "one is always taken"


def test_letters_that_went_away_meanwhile_are_passed_over(box: DeadLetters) -> None:
    park(box, *(b"n%d" % number for number in range(40)))
    replay = replay_of(box)
    box.purge(Criteria(until=NOW))
    park(box, b"n99")
    sink = Sink()
    replay.run_worker(writer(replay, sink))
    assert (replay.tally.attempted, sink.rows, len(all_letters(box))) == (0, [], 1)


@pytest.mark.parametrize("payload", [b"n1", b"not JSON"])
def test_a_letter_whose_message_is_parked_again_while_it_is_replayed_stays_as_it_is(
    box: DeadLetters, payload: bytes
) -> None:
    park(box, payload)

    def decode_after_parking(delivery: Delivery) -> Reading | Rejected:
        park(box, payload)
        return decode(delivery)

    replay = replay_of(box)
    replay.run_worker(writer(replay, Sink(), decode_after_parking))
    (letter,) = all_letters(box)
    assert (letter.seen, letter.attempts, letter.state, letter.reason) == (2, 0, "parked", "signature")


def test_what_is_parked_during_a_replay_waits_for_the_next(box: DeadLetters) -> None:
    park(box, b"n1")
    replay = replay_of(box)
    park(box, b"n2")
    replay.run_worker(writer(replay, Sink()))
    assert [letter.payload for letter in all_letters(box)] == [b"n2"]


def test_many_threads_take_each_letter_once(box: DeadLetters) -> None:
    park(box, *(b"n%d" % number for number in range(500)))
    replay = replay_of(box)
    sinks = [Sink() for _ in range(4)]
    threads = [threading.Thread(target=replay.run_worker, args=(writer(replay, sink),)) for sink in sinks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    rows = sorted(int(row.payload[2:-1]) for sink in sinks for row in sink.rows)
    assert rows == list(range(500))
    assert (replay.tally.stored, all_letters(box)) == (500, [])


def test_a_stop_ends_it_after_the_batch(box: DeadLetters) -> None:
    park(box, *(b"n%d" % number for number in range(30)))
    replay = replay_of(box)

    class Stopping(Sink):
        def write(self, rows: Sequence[Row]) -> int:
            replay.stop()
            return super().write(rows)

    replay.run_worker(writer(replay, Stopping()))
    assert (replay.tally.stored, replay.remaining, len(all_letters(box))) == (10, 20, 20)


def test_a_full_box_can_be_emptied(tmp_path: Path) -> None:
    box = DeadLetters(tmp_path / "box.sqlite", max_size=64 * 1024)
    box.open()
    number = 0
    with pytest.raises(Exception, match="full"):  # noqa: PT012 - until it is full
        for number in range(10_000):
            park(box, b"n%0500d" % number)
    box.close()
    assert number > 10
    assert box.open_for_changes()
    assert run(box, Sink()).tally.stored == number
    box.compact()
    box.close()
    assert box.path.stat().st_size < 64 * 1024


# -- pace ------------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5000), st.floats(0.1, 10_000), st.integers(1, 300))
def test_a_rate_is_kept_to_within_one_batch(size: int, rate: float, batches: int) -> None:
    pace, now, count = RateLimiter(rate), 1000.0, 0
    for _ in range(batches):
        now += pace.delay(now)
        assert pace.delay(now) < 1e-6
        took = pace.batch_size(size)
        count += took
        pace.batch_started(took, now)
    assert took <= max(1, min(size, rate))
    assert count - took <= rate * (now - 1000.0) + 1e-3


def test_without_a_rate_nothing_is_waited_for() -> None:
    pace = RateLimiter(None)
    pace.batch_started(1000, 0.0)
    assert (pace.batch_size(1000), pace.delay(0.0)) == (1000, 0.0)


@given(st.integers(0, 500), st.floats(0.001, 1e5), st.floats(1, 1e3))
def test_a_letter_is_always_tried_again_later_than_now_and_never_overflows(n: int, least: float, factor: float) -> None:
    policy = RetryPolicy(10**6, least, least * factor)
    letter = StoredLetter(*[0] * len(StoredLetter._fields))._replace(attempts=n)  # type: ignore[arg-type]
    refusal = policy.rejection(letter, DeadLetter("t", b"", 1, None, "json", None, "m", 0.0), 0.0)
    assert least <= refusal.next_retry_at <= least * factor


# -- lock ------------------------------------------------------------------------------------------------------------------


def test_a_second_replay_of_the_same_box_is_refused_or_waits(tmp_path: Path) -> None:
    path = tmp_path / "box.sqlite"

    async def story() -> list[str]:
        said: list[str] = []

        async def second() -> None:
            async with replay_lock(path, stop, wait=True) as taken:
                said.append(f"second {taken}")

        with GracefulShutdown() as stop:
            async with replay_lock(path, stop, wait=False):
                with pytest.raises(AlreadyRunningError, match="another replay"):
                    async with replay_lock(path, stop, wait=False):
                        pass
                waiting = asyncio.ensure_future(second())
                await asyncio.sleep(0)
                said.append("first")
            await waiting
            async with replay_lock(path, stop, wait=False):
                stop.request("SIGTERM")
                await second()
        return said

    assert asyncio.run(story()) == ["first", "second True", "second False"]


def test_nothing_due_is_no_work(box: DeadLetters) -> None:
    assert box.ids(Criteria(), due=NOW) == array("q")
    assert run(box, Sink()).remaining == 0


class Suspecting(Sink):
    """Refuses the readings of `poison` with a number that does not show whose fault it is."""

    def __init__(self, *, poison: Sequence[int], other_row_accepted: bool) -> None:
        super().__init__(poison=poison)
        self.other_row_accepted = other_row_accepted

    def write(self, rows: Sequence[Row]) -> int:
        try:
            return super().write(rows)
        except BatchRejected:
            if len(rows) > 1:
                raise
            raise RowSuspected("no", errno=9876, other_row_accepted=self.other_row_accepted) from None


def test_an_outage_with_an_unknown_number_counts_no_attempt(box: DeadLetters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensorsync.deadletters.replay.MAX_JUDGEMENT_SECONDS", 1.0)
    park(box, *(b"n%d" % number for number in range(5)))
    replay = run(box, Suspecting(poison=[3], other_row_accepted=False))
    assert (replay.tally.stored, replay.tally.rejected, replay.remaining) == (4, 0, 1)
    (letter,) = box.letters()
    assert (letter.attempts, letter.state) == (0, "parked")

    park(box, *(b"n%d" % number for number in range(100, 140)))
    replay = replay_of(box)
    with pytest.raises(BatchKept):
        replay.run_worker(writer(replay, Suspecting(poison=range(200), other_row_accepted=False)))
    assert {letter.attempts for letter in box.letters()} == {0}


def test_a_letter_at_fault_with_an_unknown_number_counts_an_attempt(
    box: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensorsync.pipeline.suspects._DELAYS", ())
    limits = SuspectLimits(refusals=3, seconds=0.01, interval=0.01)
    park(box, *(b"n%d" % number for number in range(5)))
    replay = replay_of(box)
    work = writer(replay, Suspecting(poison=[3], other_row_accepted=True))
    work._set_aside._suspects.limits = limits
    replay.run_worker(work)
    assert (replay.tally.stored, replay.tally.rejected, replay.remaining) == (4, 1, 0)
    (letter,) = box.letters()
    assert (letter.attempts, letter.errno) == (1, 9876)
    assert "refused 3 times" in letter.message
