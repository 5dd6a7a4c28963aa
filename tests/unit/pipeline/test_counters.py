"""What a writer counts of its work, and what it says it waits for."""

from __future__ import annotations

from sensorsync.pipeline.contract import SinkMisconfigured, SinkUnavailable
from sensorsync.pipeline.counters import Kept, WriterMeter
from sensorsync.pipeline.writer import BatchWriter, Refusals
from sensorsync.runtime.backoff import Backoff
from tests.unit.pipeline.test_writer import FakeBox, FakeSink, decode, delivery


class Desk:
    """A writer, its meter, and what that said at each pause."""

    def __init__(self, sink: FakeSink, box: FakeBox | None = None, refusals: Refusals | None = None) -> None:
        self.meter = WriterMeter()
        self.mended: set[str] = set()
        """Rows that the database takes after the first pause."""
        self.sink = sink
        self.waits: list[tuple[Kept, str] | None] = []
        self._writer = BatchWriter(
            0,
            sink,
            box or FakeBox(),
            decode,
            backoff=Backoff(0.1, 1.0),
            pause=self._pause,
            refusals=refusals or Refusals(),
            wait_for_database=True,
            meter=self.meter,
        )

    def write(self, *texts: str) -> None:
        self._writer.write([delivery(text) for text in texts])

    def _pause(self, _: float) -> bool:
        self.waits.append(self.meter.waits_for)
        self.sink.poison -= self.mended
        return True

    @property
    def causes(self) -> list[Kept]:
        return [waits[0] for waits in self.waits if waits is not None]


def test_a_commit_is_timed_once_and_a_batch_once() -> None:
    desk = Desk(FakeSink(poison={"bad"}))
    desk.write("a", "b", "bad", "c")
    assert sum(desk.meter.commit_seconds.picture()[1:]) == 2  # the halves without the poison row: a, b and c
    assert sum(desk.meter.event_seconds.picture()[1:]) == 2
    assert sum(desk.meter.batch_seconds.picture()[1:]) == 1
    assert desk.meter.last_commit > 0
    assert desk.meter.kept == {}


def test_an_outage_is_counted_by_its_number_and_told_while_it_lasts() -> None:
    desk = Desk(FakeSink(faults=[SinkUnavailable("gone", errno=2013), SinkUnavailable("refused", errno=2003)]))
    desk.write("a")
    assert desk.meter.kept == {(Kept.DATABASE, "2013"): 1, (Kept.DATABASE, "2003"): 1}
    assert desk.waits == [
        (Kept.DATABASE, "database unavailable: gone"),
        (Kept.DATABASE, "database unavailable: refused"),
    ]
    assert desk.meter.waits_for is None


def test_a_deadlock_is_counted_and_is_no_reason_to_wait() -> None:
    desk = Desk(FakeSink(faults=[SinkUnavailable("deadlock", errno=1213, prompt=True)]))
    desk.write("a")
    assert (desk.meter.kept, desk.waits) == ({(Kept.LOCK, "1213"): 1}, [])


def test_a_wrong_configuration_is_told_apart_from_an_outage() -> None:
    desk = Desk(FakeSink(faults=[SinkMisconfigured("no table", errno=1146)]))
    desk.write("a")
    assert desk.meter.kept == {(Kept.CONFIGURATION, "1146"): 1}
    assert desk.causes == [Kept.CONFIGURATION]
    assert desk.meter.waits_for is None


def test_a_database_that_refuses_everything_is_told_until_it_takes_a_row() -> None:
    desk = Desk(FakeSink(poison={"a", "b"}), refusals=Refusals(limit=2))
    desk.mended = {"a", "b"}
    desk.write("a", "b")
    assert desk.meter.kept == {(Kept.REFUSALS, "1406"): 1}
    assert desk.causes == [Kept.REFUSALS]
    assert desk.meter.waits_for is None
    assert desk.sink.stored == {"a", "b"}


def test_a_box_that_takes_nothing_is_told_until_it_does() -> None:
    desk = Desk(FakeSink(), FakeBox(faults=1))
    desk.write("garbage")
    assert desk.meter.kept == {(Kept.DEAD_LETTERS, ""): 1}
    assert desk.waits == [(Kept.DEAD_LETTERS, "the dead-letter box takes nothing: disk full")]
    assert desk.meter.waits_for is None


def test_an_outage_that_ends_in_a_refusal_of_the_row_is_over() -> None:
    box = FakeBox()
    desk = Desk(FakeSink(poison={"bad"}, faults=[SinkUnavailable("gone", errno=2013)]), box)
    desk.write("bad")
    assert [letter.errno for letter in box.letters] == [1406]
    assert desk.causes == [Kept.DATABASE]
    assert desk.meter.waits_for is None
