"""The guarantee for messages of several rows: good rows are stored, and a message with a bad row is parked whole and once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.deadletters.replay import NullDeadLetterQueue
from sensorsync.messages.reading import Column, TableRow, TargetTable
from sensorsync.pipeline import contract as pipeline
from sensorsync.pipeline import decoded_batch as module
from sensorsync.pipeline.contract import (
    BatchRejected,
    DeadLetter,
    DeadLetterBoxUnavailable,
    Delivery,
    FanOut,
    Rejected,
    Row,
    SinkUnavailable,
    WriteReport,
)
from sensorsync.pipeline.writer import BatchKept, BatchWriter, RejectionBreaker
from sensorsync.runtime.backoff import Backoff
from tests.letters import rejected_rows

TABLE = TargetTable("parts", (Column("message", "integer"), Column("part", "integer")), ("message", "part"))

Key = tuple[int, int]
"""(message, index of the part): what makes a row this row."""
Message = list[str]
"""What each of its parts is: `good`, `bad` (the decoder rejects it) or `poison` (the database refuses it)."""


def delivery(number: int, parts: Message) -> Delivery:
    return Delivery("t", json.dumps([number, *parts]).encode(), 1, 100.0, None)


def row(number: int, part: int) -> TableRow:
    return TableRow(TABLE, (number, part), "2026-01-01 00:00:00.000000")


def decode(delivery: Delivery, good: Sequence[str] = ("good", "poison")) -> Row | FanOut | Rejected:
    """Return a row for each `good` part. A message of one part is that part, and not a fan-out."""
    number, *kinds = json.loads(delivery.payload)
    if "bug" in kinds and "bug" not in good:
        raise ZeroDivisionError
    parts = [row(number, part) if kind in good else Rejected("value", "bad") for part, kind in enumerate(kinds)]
    return parts[0] if len(parts) == 1 else FanOut(tuple(parts))


def decode_all(delivery: Delivery) -> Row | FanOut | Rejected:
    """Decode with a mapping that was fixed."""
    return decode(delivery, good=("good", "poison", "bad", "bug"))


def keys(messages: Sequence[Message], *kinds: str) -> set[Key]:
    """Return the rows of these kinds."""
    return {(number, part) for number, parts in enumerate(messages) for part, kind in enumerate(parts) if kind in kinds}


@dataclass
class Table:
    """A database that rejects poison rows, and raises the given errors in this order."""

    poison: set[Key] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    rows: set[Key] = field(default_factory=set)
    in_doubt: bool = False
    """True after a COMMIT without an answer."""

    def write(self, rows: Sequence[Row]) -> int:
        assert rows, "a transaction of nothing"
        fault = self.faults.pop(0) if self.faults else ""
        self.in_doubt |= fault.endswith("lost")
        if fault in {"outage", "deadlock", "commit lost"}:
            raise SinkUnavailable(
                fault, retry_immediately=fault == "deadlock", commit_outcome_unknown=fault == "commit lost"
            )
        found = {(row.values[0], row.values[1]) for row in rows if isinstance(row, TableRow)}
        if found & self.poison:
            raise BatchRejected("poison", errno=4025)
        new = len(found - self.rows)
        self.rows |= found  # type: ignore[arg-type]
        if fault == "answer lost":
            raise SinkUnavailable(fault, commit_outcome_unknown=True)
        return new

    def close(self) -> None:
        pass


@dataclass
class Box:
    """A dead-letter box in which a message is one letter, even if it is parked several times."""

    faults: int = 0
    letters: dict[bytes, DeadLetter] = field(default_factory=dict)

    def park(self, letters: Sequence[DeadLetter]) -> int:
        if self.faults:
            self.faults -= 1
            raise DeadLetterBoxUnavailable("disk full")
        self.letters |= {letter.payload: letter for letter in letters}
        return len(letters)


def writer(
    table: Table,
    box: pipeline.DeadLetterBox,
    *,
    decoder: pipeline.Decoder = decode,
    pause: Callable[[float], bool] = lambda _: True,
    refusals: RejectionBreaker | None = None,
) -> BatchWriter:
    backoff = Backoff(0.1, 1.0)
    return BatchWriter(0, table, box, decoder, backoff=backoff, pause=pause, breaker=refusals or RejectionBreaker())


def test_a_message_of_five_rows_of_which_the_database_rejects_one_is_parked_and_four_rows_are_stored() -> None:
    messages = [["good"] * 5, ["good", "good", "poison", "good", "good"], ["good"]]
    table, box = Table(poison=keys(messages, "poison")), Box()

    report = writer(table, box).write([delivery(number, parts) for number, parts in enumerate(messages)])

    assert table.rows == keys(messages, "good")
    (letter,) = box.letters.values()
    assert letter.message == "rejected 1 of 5 rows, the others are stored: [2] poison"
    assert (report.messages_stored, report.rows_stored, report.redelivered_rows, list(report.rejected)) == (
        2,
        10,
        0,
        [1],
    )


def test_a_message_of_hundreds_of_poison_rows_counts_as_one_rejection() -> None:
    messages = [["poison"] * 300, ["poison"] * 300, ["poison"]]
    table, box = Table(poison=keys(messages, "poison")), Box()
    refusals = RejectionBreaker(limit=3)
    work = writer(table, box, pause=lambda _: False, refusals=refusals)

    work.write([delivery(0, messages[0])])
    work.write([delivery(1, messages[1])])
    assert not refusals.is_open
    assert [letter.message for letter in box.letters.values()] == ["rejected all 300 rows: [0-299] poison"] * 2

    with pytest.raises(BatchKept):
        work.write([delivery(2, messages[2])])
    assert len(box.letters) == 2


def test_a_stored_row_beside_poison_rows_resets_the_rejection_breaker() -> None:
    messages = [["poison", "good", "poison"]] * 50
    table, box = Table(poison=keys(messages, "poison")), Box()
    writer(table, box, pause=lambda _: False, refusals=RejectionBreaker(limit=2)).write(
        [delivery(number, parts) for number, parts in enumerate(messages)]
    )
    assert len(box.letters) == 50
    assert table.rows == keys(messages, "good")


def test_many_poison_rows_after_a_good_row_do_not_keep_the_batch_for_ever() -> None:
    # Each retry ended with the same sequence of rejections, so this batch and all after it were kept until another row was stored.
    messages = [["good"] * 3, *[["poison"]] * 500]
    table, box = Table(poison=keys(messages, "poison")), Box()

    report = writer(table, box, pause=lambda _: False).write(
        [delivery(number, parts) for number, parts in enumerate(messages)]
    )

    assert (report.messages_stored, report.rows_stored, report.redelivered_rows, len(box.letters)) == (1, 3, 0, 500)


def test_a_batch_kept_by_the_rejection_breaker_is_parked_once_another_writer_stores_a_row() -> None:
    table, box, refusals = Table(poison={(number, 0) for number in range(200)}), Box(), RejectionBreaker()
    other = writer(table, box, refusals=refusals)
    waits: list[float] = []

    def pause(seconds: float) -> bool:
        assert not box.letters
        waits.append(seconds)
        if len(waits) == 3:
            other.write([delivery(200, ["good", "good"])])
        return len(waits) < 4

    writer(table, box, pause=pause, refusals=refusals).write([delivery(number, ["poison"]) for number in range(200)])

    assert (len(waits), len(box.letters), len(table.rows)) == (3, 200, 2)


def test_a_batch_that_is_committed_in_parts_is_reported_as_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PART_ROWS", 10)
    messages = [["good", "poison", "good"] if number % 4 == 0 else ["good"] * 3 for number in range(20)]
    table, box = Table(poison=keys(messages, "poison")), Box()
    table.rows = {(1, 1), (19, 0)}

    report = writer(table, box).write([delivery(number, parts) for number, parts in enumerate(messages)])

    assert table.rows == keys(messages, "good")
    assert (report.messages_stored, report.rows_stored, report.redelivered_rows) == (15, 55, 2)
    assert list(report.rejected) == [0, 4, 8, 12, 16]
    assert [report.rejected[place] for place in report.rejected] == list(box.letters.values())
    assert writer(Table(), Box()).write([delivery(number, ["good"] * 3) for number in range(20)]).transactions == 1


def test_a_stop_between_two_parts_settles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PART_ROWS", 4)
    deliveries = [delivery(number, ["good", "bad", "good"]) for number in range(4)]
    table, box = Table(faults=["", "outage"]), Box()
    with pytest.raises(BatchKept):
        writer(table, box, pause=lambda _: False).write(deliveries)
    assert len(table.rows) == 4  # the first part; the broker sends it again, and it is found
    assert box.letters == {}

    report = writer(table, box).write(deliveries)
    assert (report.rows_stored, report.redelivered_rows, len(box.letters)) == (8, 4, 4)


kinds = st.sampled_from(["good", "good", "good", "bad", "poison"])
messages = st.lists(st.lists(kinds, min_size=1, max_size=8) | st.just(["bug"]), min_size=1, max_size=12)
faults = st.lists(st.sampled_from(["", "", "outage", "deadlock", "commit lost", "answer lost"]), max_size=25)


def in_batches(deliveries: Sequence[Delivery], sizes: Iterator[int]) -> Iterator[Sequence[Delivery]]:
    start = 0
    while start < len(deliveries):
        size = next(sizes)
        yield deliveries[start : start + size]
        start += size


@given(st.data())
def test_for_any_messages_errors_and_stops_every_row_and_message_has_exactly_one_outcome(
    data: st.DataObject,
) -> None:
    sent = data.draw(messages, "messages")
    again = data.draw(st.lists(st.integers(0, len(sent) - 1), max_size=4), "delivered again")
    deliveries = [delivery(number, sent[number]) for number in [*range(len(sent)), *again]]
    table = Table(poison=keys(sent, "poison"), faults=data.draw(faults, "faults of the database"))
    box = Box(faults=data.draw(st.integers(0, 3), "faults of the box"))
    reports: list[WriteReport] = []
    stops = 0

    def pause(_: float) -> bool:
        return data.draw(st.integers(0, 3), "stop at 0") > 0

    for batch in in_batches(deliveries, iter(lambda: data.draw(st.integers(1, 8), "batch"), 0)):
        while True:  # a batch that is kept is delivered again, to another process
            try:
                report = writer(table, box, pause=pause).write(batch)
            except BatchKept:
                stops += 1
                continue
            break
        reports.append(report)
        # No message is settled otherwise: what is acknowledged now is in the table or in the box.
        for place, one in enumerate(batch):
            number, *parts = json.loads(one.payload)
            good = {key for key in keys(sent, "good") if key[0] == number}
            assert good <= table.rows
            assert (place in report.rejected) == (one.payload in box.letters) == (set(parts) != {"good"})
        assert report.messages_stored + len(report.rejected) == len(batch)

    assert table.rows == keys(sent, "good")
    expected = {delivery(number, parts).payload for number, parts in enumerate(sent) if set(parts) != {"good"}}
    assert set(box.letters) == expected
    for payload, letter in box.letters.items():
        _, *parts = json.loads(payload)
        if len(parts) > 1:
            assert rejected_rows(letter.message) == [index for index, kind in enumerate(parts) if kind != "good"]
    occurrences = Counter(json.loads(one.payload)[0] for one in deliveries)
    assert sum(report.rows_stored for report in reports) == sum(occurrences[number] for number, _ in keys(sent, "good"))
    if not (stops or table.in_doubt):  # otherwise the rows that are found may be of either attempt
        redelivered = sum(occurrences[number] - 1 for number, _ in keys(sent, "good"))
        assert sum(report.redelivered_rows for report in reports) == redelivered

    replay_of_the_letters(sent, table, box)


def replay_of_the_letters(sent: Sequence[Message], table: Table, box: Box) -> None:
    """Check that a replay adds no rows while they are bad, and exactly the missing ones once they are fixed."""
    table.faults = []
    letters = [Delivery(one.topic, one.payload, one.qos, one.received_at, None) for one in box.letters.values()]
    before = set(table.rows)
    report = writer(table, NullDeadLetterQueue(), refusals=RejectionBreaker(10**9)).write(letters)
    assert table.rows == before
    assert len(report.rejected) == len(letters)
    assert report.rows_stored == report.redelivered_rows

    table.poison = set()
    report = writer(table, NullDeadLetterQueue(), decoder=decode_all).write(letters)
    assert (report.messages_stored, report.rejected) == (len(letters), {})
    assert table.rows - before == keys(sent, "bad", "poison", "bug")
    assert report.rows_stored - report.redelivered_rows == len(table.rows) - len(before)
