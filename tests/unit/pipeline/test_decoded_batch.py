"""The rows of a batch, and the dead letter of a message that is not completely stored."""

from __future__ import annotations

import logging

import pytest

from sensorsync.messages.reading import Column, TableRow, TargetTable
from sensorsync.pipeline import decoded_batch as module
from sensorsync.pipeline.contract import BatchRejected, Delivery, FanOut, Reading, Rejected, Row
from sensorsync.pipeline.decoded_batch import DecodedBatch, decode_batch

TABLE = TargetTable("states", (Column("machine", "text"), Column("note", "text")), ("machine",))


def delivery(text: str = "x", fault: str | None = None) -> Delivery:
    return Delivery("t", text.encode(), 1, 100.0, None, {"content_type": "x"}, fault)


def row(name: str, payload: str = "{}") -> Reading:
    return Reading(name.encode(), "d", "m", "2026-01-01 00:00:00.000000", 1.0, None, None, "t", 100.0, payload)


def bad(message: str = "value is missing", reason: str = "value") -> Rejected:
    return Rejected(reason, message)


def said(*parts: Row | Rejected, refused: dict[int, str] | None = None) -> str:
    """Return the text of the dead letter of a message of these parts."""
    batch = DecodedBatch()
    batch.add_fan_out(0, FanOut(parts))
    refusals = {row: BatchRejected(message) for row, message in (refused or {}).items()}
    (letter,) = batch.dead_letters([delivery()], refusals).values()
    return letter.message


def test_each_row_has_the_index_of_its_message() -> None:
    batch = DecodedBatch()
    batch.add_row(0, row("a"))
    batch.add_fan_out(1, FanOut((row("b"), bad(), row("c"))))
    batch.add_rejected(2, bad())
    batch.add_row(3, TableRow(TABLE, ("press", None), None))
    assert [one.event_id for one in batch.rows if isinstance(one, Reading)] == [b"a", b"b", b"c"]
    assert batch.message_indices == [0, 1, 1, 3]
    assert list(batch.dead_letters([delivery(str(number)) for number in range(4)])) == [1, 2]


def test_a_dead_letter_has_the_whole_message_and_the_reason_of_its_first_rejection() -> None:
    batch = DecodedBatch()
    batch.add_fan_out(0, FanOut((row("a"), row("b"), bad("ts is no time", "ts"))))
    refused = {1: BatchRejected("too long", errno=1406)}
    letter = batch.dead_letters([delivery("whole")], refused)[0]
    assert (letter.payload, letter.properties, letter.received_at) == (b"whole", {"content_type": "x"}, 100.0)
    assert (letter.reason, letter.errno) == ("database", 1406)
    assert letter.message == "rejected 2 of 3 rows, the others are stored: [1] too long; [2] ts is no time"


def test_indices_count_the_parts_of_the_message_and_not_its_rows() -> None:
    assert said(bad(), row("a"), bad(), row("b"), refused={1: "refused"}).endswith(
        "[0, 2] value is missing; [3] refused"
    )


def test_a_single_row_message_keeps_its_rejection_text() -> None:
    batch = DecodedBatch()
    batch.add_row(0, row("a"))
    batch.add_rejected(1, bad("not JSON", "json"))
    letters = batch.dead_letters([delivery(), delivery()], {0: BatchRejected("too long", errno=1406)})
    assert [(letters[place].reason, letters[place].message) for place in (0, 1)] == [
        ("database", "too long"),
        ("json", "not JSON"),
    ]


def test_when_no_row_is_stored_the_dead_letter_does_not_mention_stored_rows() -> None:
    assert said(bad(), bad()) == "rejected all 2 rows: [0-1] value is missing"
    assert said(bad()) == "rejected its only row: [0] value is missing"


def test_thousands_of_rejections_are_summarised() -> None:
    parts: list[Row | Rejected] = [bad(f"value {'9' * 1000} of {number}") for number in range(3000)]
    parts += [row("x"), *[bad()] * 100, row("y"), bad("last")]
    text = said(*parts)
    assert text.startswith("rejected 3,101 of 3,103 rows, the others are stored: [0] value 999")
    assert text.endswith("; [10-2999, 3001-3100, 3102] for other reasons")
    assert len(text) < 4000


def test_index_ranges_beyond_a_hundred_are_counted() -> None:
    parts = [part for number in range(150) for part in (bad(), row(str(number)))]
    text = said(*parts)
    assert text.startswith("rejected 150 of 300 rows, the others are stored: [0, 2, 4, ")
    assert text.endswith(", 198, and 50 more] value is missing")


def test_a_message_that_gives_neither_a_row_nor_a_reason_is_parked_and_not_dropped() -> None:
    batch = DecodedBatch()
    batch.add_fan_out(0, FanOut(()))
    assert batch.dead_letters([delivery()])[0].reason == "internal"


def test_a_packet_that_is_not_mqtt_is_not_decoded() -> None:
    def never(delivery: Delivery) -> Row:
        raise AssertionError

    (batch,) = decode_batch([delivery(fault="not UTF-8")], never)
    assert batch.dead_letters([delivery()])[0].reason == "mqtt"


def test_an_exception_while_decoding_is_logged_and_rejects_only_its_message(caplog: pytest.LogCaptureFixture) -> None:
    def decode(delivery: Delivery) -> Row:
        return row("good") if delivery.payload == b"x" else row(str(1 / 0))

    with caplog.at_level(logging.ERROR):
        (batch,) = decode_batch([delivery("bug"), delivery()], decode)
    assert (len(batch.rows), batch.message_indices) == (1, [1])
    letter = batch.dead_letters([delivery("bug"), delivery()])[0]
    assert letter.reason == "internal"
    assert "ZeroDivisionError" in letter.message
    assert [record.__dict__["event"] for record in caplog.records] == ["decode_failed"]


@pytest.mark.parametrize(
    "part",
    [row("a", payload="x" * 50), TableRow(TABLE, ("press", "x" * 50), None)],
    ids=["reading", "row of a target table"],
)
def test_a_batch_of_very_many_rows_is_decoded_in_parts_of_whole_messages(
    part: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliveries = [delivery(str(number)) for number in range(7)]

    def decode(delivery: Delivery) -> Row | FanOut | Rejected:
        return part if delivery.payload == b"6" else FanOut((part,) * 4)

    monkeypatch.setattr(module, "MAX_PART_ROWS", 8)
    by_rows = [batch.message_indices for batch in decode_batch(deliveries, decode)]
    assert by_rows == [[0] * 4 + [1] * 4, [2] * 4 + [3] * 4, [4] * 4 + [5] * 4, [6]]

    monkeypatch.setattr(module, "MAX_PART_ROWS", 10_000)
    monkeypatch.setattr(module, "MAX_PART_CHARACTERS", 12 * 50)
    by_text = [batch.message_indices for batch in decode_batch(deliveries, decode)]
    assert by_text == [[0] * 4 + [1] * 4 + [2] * 4, [3] * 4 + [4] * 4 + [5] * 4, [6]]


def test_thousands_of_rejections_are_in_memory_for_one_part_only(monkeypatch: pytest.MonkeyPatch) -> None:
    deliveries = [delivery(str(number)) for number in range(5)]
    monkeypatch.setattr(module, "MAX_PART_ROWS", 8)
    parts = list(decode_batch(deliveries, lambda _: FanOut((bad(),) * 4)))
    assert [list(part.rejections) for part in parts] == [[0, 1], [2, 3], [4]]
    assert [place for part in parts for place in part.dead_letters(deliveries)] == [0, 1, 2, 3, 4]


def test_a_batch_of_plain_readings_of_any_size_is_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PART_ROWS", 8)
    (batch,) = decode_batch([delivery()] * 20, lambda _: row("a"))
    assert len(batch.rows) == 20
