"""The writer: a message is stored or parked, or its batch is kept, and there is no other outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.pipeline.contract import (
    BatchRejected,
    DeadLetter,
    DeadLetterBoxUnavailable,
    Delivery,
    Reading,
    Rejected,
    Row,
    SinkMisconfigured,
    SinkUnavailable,
    SinkVerificationFailed,
)
from sensorsync.pipeline.writer import BatchKept, BatchWriter, RejectionBreaker
from sensorsync.runtime.backoff import Backoff


def delivery(text: str) -> Delivery:
    return Delivery("t", text.encode(), 1, 100.0, None)


def decode(delivery: Delivery) -> Reading | Rejected:
    text = delivery.payload.decode()
    if text.startswith("garbage"):
        return Rejected("json", "not JSON")
    if text.startswith("bug"):
        raise ZeroDivisionError
    return Reading(text.encode(), "d", "m", "2026-01-01 00:00:00.000000", 1.0, None, None, "t", 100.0, "{}")


@dataclass
class FakeSink:
    """A sink that stores by event id, rejects batches with a poison row, and raises the errors in `faults` first."""

    poison: set[str] = field(default_factory=set)
    faults: list[Exception] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)
    calls: int = 0

    def write(self, rows: Sequence[Row]) -> int:
        self.calls += 1
        if self.faults:
            raise self.faults.pop(0)
        ids = [row.event_id.decode() for row in rows if isinstance(row, Reading)]
        if self.poison & set(ids):
            raise BatchRejected("poison", errno=1406)
        new = set(ids) - self.stored
        self.stored |= new
        return len(new)

    def close(self) -> None:
        pass


@dataclass
class FakeBox:
    faults: int = 0
    letters: list[DeadLetter] = field(default_factory=list)

    def park(self, letters: Sequence[DeadLetter]) -> int:
        if self.faults:
            self.faults -= 1
            raise DeadLetterBoxUnavailable("disk full")
        self.letters += letters
        return len(letters)


def writer(
    sink: FakeSink,
    box: FakeBox,
    *,
    pause: Callable[[float], bool] = lambda _: True,
    refusals: RejectionBreaker | None = None,
    wait_for_database: bool = False,
) -> BatchWriter:
    return BatchWriter(
        0,
        sink,
        box,
        decode,
        backoff=Backoff(0.1, 1.0),
        pause=pause,
        breaker=refusals or RejectionBreaker(),
        wait_for_database=wait_for_database,
    )


def test_a_bad_message_is_parked_with_its_reason_and_the_rest_of_its_batch_is_stored() -> None:
    sink, box = FakeSink(), FakeBox()

    report = writer(sink, box).write([delivery("a"), delivery("garbage"), delivery("b")])

    assert sink.stored == {"a", "b"}
    assert [(letter.reason, letter.payload) for letter in box.letters] == [("json", b"garbage")]
    assert (report.messages_stored, list(report.rejected)) == (2, [1])


def test_an_exception_while_decoding_parks_that_message_with_its_traceback() -> None:
    sink, box = FakeSink(), FakeBox()

    writer(sink, box).write([delivery("bug"), delivery("a")])

    assert sink.stored == {"a"}
    assert box.letters[0].reason == "internal"
    assert "ZeroDivisionError" in box.letters[0].message


def test_a_poison_row_is_found_by_halving_and_the_others_are_stored() -> None:
    sink, box = FakeSink(poison={"13"}), FakeBox()

    report = writer(sink, box).write([delivery(str(number)) for number in range(1000)])

    assert len(sink.stored) == 999
    assert [letter.payload for letter in box.letters] == [b"13"]
    assert box.letters[0].errno == 1406
    assert report.transactions <= 1 + 2 * 10 + 1  # log2(1000) = 10, and once more after the others are stored


def test_an_outage_keeps_the_batch_and_parks_nothing() -> None:
    sink, box = FakeSink(faults=[SinkUnavailable("gone", errno=2013)] * 50), FakeBox()

    report = writer(sink, box).write([delivery("a")])

    assert sink.stored == {"a"}
    assert box.letters == []
    assert report.transactions == 51


def test_a_stop_during_an_outage_leaves_the_batch_unacknowledged() -> None:
    sink, box = FakeSink(faults=[SinkUnavailable("gone")] * 9), FakeBox()
    pauses = iter([True, True, False])

    with pytest.raises(BatchKept):
        writer(sink, box, pause=lambda _: next(pauses)).write([delivery("a"), delivery("garbage")])

    assert sink.stored == set()
    assert box.letters == []


def test_a_deadlock_is_retried_at_once_and_only_then_with_a_wait() -> None:
    waits: list[float] = []

    def pause(seconds: float) -> bool:
        waits.append(seconds)
        return True

    sink = FakeSink(faults=[SinkUnavailable("deadlock", errno=1213, retry_immediately=True)] * 6)
    writer(sink, FakeBox(), pause=pause).write([delivery("a")])

    assert len(waits) == 1


def test_nothing_settles_before_the_box_has_the_rejected_messages() -> None:
    sink, box = FakeSink(), FakeBox(faults=3)
    seen: list[int] = []

    def pause(_: float) -> bool:
        seen.append(len(box.letters))
        return True

    report = writer(sink, box, pause=pause).write([delivery("garbage")])

    assert seen == [0, 0, 0]
    assert len(box.letters) == len(report.rejected) == 1


def test_while_the_dead_letter_box_stays_unavailable_the_batch_is_kept() -> None:
    with pytest.raises(BatchKept):
        writer(FakeSink(), FakeBox(faults=9), pause=lambda _: False).write([delivery("garbage")])


def test_a_misconfigured_database_stops_the_writer_unless_wait_for_database_is_set() -> None:
    fault = SinkMisconfigured("no such table", errno=1146)
    with pytest.raises(SinkMisconfigured):
        writer(FakeSink(faults=[fault]), FakeBox()).write([delivery("a")])

    sink = FakeSink(faults=[fault])
    assert writer(sink, FakeBox(), wait_for_database=True).write([delivery("a")]).messages_stored == 1


def test_a_database_that_is_not_as_it_was_verified_is_waited_for_and_nothing_is_parked() -> None:
    fault = SinkVerificationFailed("sensor_readings has a second unique key", hint="drop it")
    sink, box = FakeSink(faults=[fault] * 3), FakeBox()
    report = writer(sink, box, wait_for_database=False).write([delivery("a")])
    assert (report.messages_stored, report.transactions, box.letters) == (1, 4, [])


def test_a_database_that_stays_other_than_it_was_verified_leaves_the_batch_unacknowledged() -> None:
    fault = SinkVerificationFailed("sensor_readings has a second unique key")
    with pytest.raises(BatchKept):
        writer(FakeSink(faults=[fault]), FakeBox(), pause=lambda _: False).write([delivery("a")])


def test_rows_found_after_a_commit_of_unknown_outcome_are_not_counted_as_redelivered() -> None:
    sink = FakeSink(stored={"a", "b"}, faults=[SinkUnavailable("lost", errno=2013, commit_outcome_unknown=True)])

    report = writer(sink, FakeBox()).write([delivery("a"), delivery("b")])

    assert (report.messages_stored, report.redelivered_rows) == (2, 0)


def test_rows_that_were_in_the_table_before_count_as_redelivered() -> None:
    report = writer(FakeSink(stored={"a"}), FakeBox()).write([delivery("a"), delivery("b")])

    assert (report.messages_stored, report.redelivered_rows) == (2, 1)


def test_when_the_database_rejects_every_row_the_batch_is_kept_and_nothing_is_parked() -> None:
    everything = {str(number) for number in range(100)}
    sink, box = FakeSink(poison=set(everything)), FakeBox()

    def mended(_: float) -> bool:
        sink.poison.clear()
        return True

    report = writer(sink, box, pause=mended).write([delivery(text) for text in sorted(everything)])

    assert box.letters == []
    assert report.messages_stored == 100


def test_the_rejection_breaker_opens_over_batches_and_one_stored_row_closes_it() -> None:
    refusals = RejectionBreaker(limit=3)
    sink, box = FakeSink(poison={"p1", "p2", "p3", "p4"}), FakeBox()
    work = writer(sink, box, refusals=refusals, pause=lambda _: False)

    work.write([delivery("p1")])
    work.write([delivery("p2")])
    with pytest.raises(BatchKept):
        work.write([delivery("p3")])
    assert len(box.letters) == 2

    work.write([delivery("p4"), delivery("good")])
    assert not refusals.is_open
    assert len(box.letters) == 3


def test_a_lone_bad_reading_never_stops_the_service() -> None:
    sink, box = FakeSink(poison={"bad"}), FakeBox()
    work = writer(sink, box, pause=lambda _: False)

    for number in range(300):
        work.write([delivery(f"good-{number}"), delivery("bad")])

    assert len(box.letters) == 300


kinds = st.sampled_from(["good", "garbage", "bug", "poison"])


@given(
    st.lists(kinds, min_size=1, max_size=60),
    st.lists(st.sampled_from(["outage", "deadlock", "ambiguous"]), max_size=8),
    st.integers(0, 3),
)
def test_for_any_batch_and_any_errors_every_message_has_exactly_one_outcome(
    batch: list[str], faults: list[str], box_faults: int
) -> None:
    texts = [f"{kind}-{number}" for number, kind in enumerate(batch)]
    made: dict[str, Exception] = {
        "outage": SinkUnavailable("gone"),
        "deadlock": SinkUnavailable("deadlock", retry_immediately=True),
        "ambiguous": SinkUnavailable("lost", commit_outcome_unknown=True),
    }
    sink = FakeSink(poison={t for t in texts if t.startswith("poison")}, faults=[made[f] for f in faults])
    box = FakeBox(faults=box_faults)

    report = writer(sink, box).write([delivery(text) for text in texts])

    assert sink.stored == {t for t in texts if t.startswith("good")}
    assert sorted(letter.payload.decode() for letter in box.letters) == sorted(set(texts) - sink.stored)
    assert report.messages_stored + len(report.rejected) == len(texts)
    assert all(texts[index].encode() == letter.payload for index, letter in report.rejected.items())
