"""The counters of a writer, and the cause that it reports while it waits."""

from __future__ import annotations

from sensorsync.pipeline.contract import SinkMisconfigured, SinkUnavailable, SinkVerificationFailed
from sensorsync.pipeline.counters import RetryCause, WriterCounters
from sensorsync.pipeline.writer import BatchWriter, RejectionBreaker
from sensorsync.runtime.backoff import Backoff
from tests.unit.pipeline.test_writer import FakeBox, FakeSink, decode, delivery


class WriterUnderTest:
    """A writer, its counters, and the cause of each wait."""

    def __init__(self, sink: FakeSink, box: FakeBox | None = None, refusals: RejectionBreaker | None = None) -> None:
        self.counters = WriterCounters()
        self.mended: set[str] = set()
        """Rows that the database accepts after the first pause."""
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
            counters=self.counters,
        )

    def write(self, *texts: str) -> None:
        self._writer.write([delivery(text) for text in texts])

    def _pause(self, _: float) -> bool:
        self.waits.append(self.counters.blocked_by)
        self.sink.poison -= self.mended
        return True

    @property
    def causes(self) -> list[RetryCause]:
        return [waits[0] for waits in self.waits if waits is not None]


def test_a_commit_is_timed_once_and_a_batch_once() -> None:
    tested = WriterUnderTest(FakeSink(poison={"bad"}))
    tested.write("a", "b", "bad", "c")
    assert (
        sum(tested.counters.commit_seconds.sum_and_counts()[1:]) == 2
    )  # the halves without the poison row: a, b and c
    assert sum(tested.counters.event_age_seconds.sum_and_counts()[1:]) == 2
    assert sum(tested.counters.batch_seconds.sum_and_counts()[1:]) == 1
    assert tested.counters.last_commit > 0
    assert tested.counters.retries_by_cause == {}


def test_an_outage_is_counted_by_errno_and_reported_while_it_lasts() -> None:
    tested = WriterUnderTest(
        FakeSink(faults=[SinkUnavailable("gone", errno=2013), SinkUnavailable("refused", errno=2003)])
    )
    tested.write("a")
    assert tested.counters.retries_by_cause == {(RetryCause.DATABASE, "2013"): 1, (RetryCause.DATABASE, "2003"): 1}
    assert tested.waits == [
        (RetryCause.DATABASE, "database unavailable: gone"),
        (RetryCause.DATABASE, "database unavailable: refused"),
    ]
    assert tested.counters.blocked_by is None


def test_a_deadlock_is_counted_and_retried_without_a_wait() -> None:
    tested = WriterUnderTest(FakeSink(faults=[SinkUnavailable("deadlock", errno=1213, retry_immediately=True)]))
    tested.write("a")
    assert (tested.counters.retries_by_cause, tested.waits) == ({(RetryCause.LOCK, "1213"): 1}, [])


def test_a_wrong_configuration_is_counted_apart_from_an_outage() -> None:
    tested = WriterUnderTest(FakeSink(faults=[SinkMisconfigured("no table", errno=1146)]))
    tested.write("a")
    assert tested.counters.retries_by_cause == {(RetryCause.CONFIGURATION, "1146"): 1}
    assert tested.causes == [RetryCause.CONFIGURATION]
    assert tested.counters.blocked_by is None


def test_a_table_that_has_changed_is_counted_as_a_wrong_configuration() -> None:
    tested = WriterUnderTest(FakeSink(faults=[SinkVerificationFailed("another key")]))
    tested.write("a")
    assert tested.counters.retries_by_cause == {(RetryCause.CONFIGURATION, ""): 1}
    assert tested.causes == [RetryCause.CONFIGURATION]


def test_a_database_that_rejects_everything_is_reported_until_a_row_is_stored() -> None:
    tested = WriterUnderTest(FakeSink(poison={"a", "b"}), refusals=RejectionBreaker(limit=2))
    tested.mended = {"a", "b"}
    tested.write("a", "b")
    assert tested.counters.retries_by_cause == {(RetryCause.REFUSALS, "1406"): 1}
    assert tested.causes == [RetryCause.REFUSALS]
    assert tested.counters.blocked_by is None
    assert tested.sink.stored == {"a", "b"}


def test_an_unavailable_dead_letter_box_is_reported_until_it_is_written() -> None:
    tested = WriterUnderTest(FakeSink(), FakeBox(faults=1))
    tested.write("garbage")
    assert tested.counters.retries_by_cause == {(RetryCause.DEAD_LETTERS, ""): 1}
    assert tested.waits == [(RetryCause.DEAD_LETTERS, "the dead-letter box cannot be written: disk full")]
    assert tested.counters.blocked_by is None


def test_an_outage_is_over_once_the_database_rejects_the_row() -> None:
    box = FakeBox()
    tested = WriterUnderTest(FakeSink(poison={"bad"}, faults=[SinkUnavailable("gone", errno=2013)]), box)
    tested.write("bad")
    assert [letter.errno for letter in box.letters] == [1406]
    assert tested.causes == [RetryCause.DATABASE]
    assert tested.counters.blocked_by is None
