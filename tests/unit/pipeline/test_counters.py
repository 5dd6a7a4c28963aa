"""What a writer counts of its work, and what it says it waits for."""

from __future__ import annotations

from sensorsync.pipeline.contract import SinkMisconfigured, SinkUnavailable
from sensorsync.pipeline.counters import RetryCause, WriterCounters
from sensorsync.pipeline.writer import BatchWriter, RejectionBreaker
from sensorsync.runtime.backoff import Backoff
from tests.unit.pipeline.test_writer import FakeBox, FakeSink, decode, delivery


class Desk:
    """A writer, its meter, and what that said at each pause."""

    def __init__(self, sink: FakeSink, box: FakeBox | None = None, refusals: RejectionBreaker | None = None) -> None:
        self.meter = WriterCounters()
        self.mended: set[str] = set()
        """Rows that the database takes after the first pause."""
        self.sink = sink
        self.waits: list[tuple[RetryCause, str] | None] = []
        self._writer = BatchWriter(
            0,
            sink,
            box or FakeBox(),
            decode,
            backoff=Backoff(0.1, 1.0),
            pause=self._pause,
            breaker=refusals or RejectionBreaker(),
            wait_for_database=True,
            counters=self.meter,
        )

    def write(self, *texts: str) -> None:
        self._writer.write([delivery(text) for text in texts])

    def _pause(self, _: float) -> bool:
        self.waits.append(self.meter.blocked_by)
        self.sink.poison -= self.mended
        return True

    @property
    def causes(self) -> list[RetryCause]:
        return [waits[0] for waits in self.waits if waits is not None]


def test_a_commit_is_timed_once_and_a_batch_once() -> None:
    desk = Desk(FakeSink(poison={"bad"}))
    desk.write("a", "b", "bad", "c")
    assert sum(desk.meter.commit_seconds.sum_and_counts()[1:]) == 2  # the halves without the poison row: a, b and c
    assert sum(desk.meter.event_age_seconds.sum_and_counts()[1:]) == 2
    assert sum(desk.meter.batch_seconds.sum_and_counts()[1:]) == 1
    assert desk.meter.last_commit > 0
    assert desk.meter.retries_by_cause == {}


def test_an_outage_is_counted_by_errno_and_reported_while_it_lasts() -> None:
    desk = Desk(FakeSink(faults=[SinkUnavailable("gone", errno=2013), SinkUnavailable("refused", errno=2003)]))
    desk.write("a")
    assert desk.meter.retries_by_cause == {(RetryCause.DATABASE, "2013"): 1, (RetryCause.DATABASE, "2003"): 1}
    assert desk.waits == [
        (RetryCause.DATABASE, "database unavailable: gone"),
        (RetryCause.DATABASE, "database unavailable: refused"),
    ]
    assert desk.meter.blocked_by is None


def test_a_deadlock_is_counted_and_is_no_reason_to_wait() -> None:
    desk = Desk(FakeSink(faults=[SinkUnavailable("deadlock", errno=1213, retry_immediately=True)]))
    desk.write("a")
    assert (desk.meter.retries_by_cause, desk.waits) == ({(RetryCause.LOCK, "1213"): 1}, [])


def test_a_wrong_configuration_is_counted_apart_from_an_outage() -> None:
    desk = Desk(FakeSink(faults=[SinkMisconfigured("no table", errno=1146)]))
    desk.write("a")
    assert desk.meter.retries_by_cause == {(RetryCause.CONFIGURATION, "1146"): 1}
    assert desk.causes == [RetryCause.CONFIGURATION]
    assert desk.meter.blocked_by is None


def test_a_database_that_rejects_everything_is_reported_until_a_row_is_stored() -> None:
    desk = Desk(FakeSink(poison={"a", "b"}), refusals=RejectionBreaker(limit=2))
    desk.mended = {"a", "b"}
    desk.write("a", "b")
    assert desk.meter.retries_by_cause == {(RetryCause.REFUSALS, "1406"): 1}
    assert desk.causes == [RetryCause.REFUSALS]
    assert desk.meter.blocked_by is None
    assert desk.sink.stored == {"a", "b"}


def test_an_unavailable_dead_letter_box_is_reported_until_it_is_written() -> None:
    desk = Desk(FakeSink(), FakeBox(faults=1))
    desk.write("garbage")
    assert desk.meter.retries_by_cause == {(RetryCause.DEAD_LETTERS, ""): 1}
    assert desk.waits == [(RetryCause.DEAD_LETTERS, "the dead-letter box cannot be written: disk full")]
    assert desk.meter.blocked_by is None


def test_an_outage_that_ends_in_a_refusal_of_the_row_is_over() -> None:
    box = FakeBox()
    desk = Desk(FakeSink(poison={"bad"}, faults=[SinkUnavailable("gone", errno=2013)]), box)
    desk.write("bad")
    assert [letter.errno for letter in box.letters] == [1406]
    assert desk.causes == [RetryCause.DATABASE]
    assert desk.meter.blocked_by is None
