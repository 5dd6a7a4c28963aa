"""The arithmetic of an audit, on rows without any database."""

from __future__ import annotations

import itertools

import orjson
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.loadtest import AuditReport, AuditTally, GeneratedMessages, Run
from sensorsync.loadtest.audit_tally import MAX_RANGES, MissingRange, ranges_of_zeros
from sensorsync.messages.reading import Reading, ReadingDecoder

RUN = Run("r20261124-2015-ab12", 20, 3)


def rows(run: Run = RUN) -> list[Reading]:
    decoder = ReadingDecoder()
    payloads = [
        payload
        for client in range(run.clients)
        for payload in GeneratedMessages(run, client).take(run.messages, 1e9).payloads
    ]
    found = [decoder.decode(payload, "t", 0.0) for payload in payloads]
    return [row for row in found if isinstance(row, Reading)]


def tallied(found: list[Reading], run: Run | None = None, parked: tuple[bytes, ...] = ()) -> AuditReport:
    tally = AuditTally(RUN.id, run)
    for row in found:
        tally.add_row(row.device_id, row.event_id, row.metric, row.value, row.payload)
    for payload in parked:
        tally.add_dead_letter(payload)
    return tally.report()


def test_a_complete_run_gives_its_own_size() -> None:
    report = tallied(rows())
    assert report.complete
    assert (report.messages, report.clients, report.messages_stored, report.missing) == (20, 3, 20, 0)
    assert (report.corrupt, report.duplicate_rows, report.parked, report.likely_cause) == (0, 0, 0, None)


def test_the_order_of_names_in_the_payload_does_not_matter() -> None:
    sorted_by_mysql = [
        row._replace(payload=orjson.dumps(orjson.loads(row.payload), option=orjson.OPT_SORT_KEYS).decode())
        for row in rows()
    ]
    assert tallied(sorted_by_mysql).complete


def test_missing_messages_are_named_by_client_and_sequence_number() -> None:
    gone = {(0, 0), (0, 1), (0, 6), (2, 3)}
    left = [
        row for row in rows() if (orjson.loads(row.payload)["client"], orjson.loads(row.payload)["seq"]) not in gone
    ]
    report = tallied(left)
    assert not report.complete
    assert (report.messages_stored, report.missing) == (16, 4)
    assert report.missing_ranges == (MissingRange(0, 0, 1), MissingRange(0, 6, 6), MissingRange(2, 3, 3))
    assert "max_queued_messages" in str(report.likely_cause)
    assert "max_mqueue_len" in str(report.likely_cause)


def test_nothing_stored_has_another_likely_cause() -> None:
    report = tallied([])
    assert (report.messages, report.missing, report.complete) == (None, None, False)
    assert "no subscriber" in str(report.likely_cause)
    known = tallied([], RUN)
    assert (known.messages, known.missing) == (20, 20)
    assert "no subscriber" in str(known.likely_cause)


def test_a_row_that_differs_from_what_was_sent_is_corrupt_and_not_stored() -> None:
    first, *rest = rows()
    for changed in (
        first._replace(value=1.5),
        first._replace(value=None),
        first._replace(metric="x"),
        first._replace(event_id=first.event_id[:-1] + b"\xff"),
        first._replace(device_id=rest[-1].device_id),
        first._replace(payload=first.payload.replace('"seq":0', '"seq":1')),
        first._replace(payload=first.payload.replace('"value":', '"value":1')),
    ):
        report = tallied([changed, *rest])
        assert not report.complete
        assert report.corrupt == 1
        assert report.messages_stored == 19
        assert len(report.corrupt_examples) == 1


def test_a_payload_that_is_of_no_message_of_the_run_is_corrupt() -> None:
    first, *rest = rows()
    for payload in (
        "",
        "[]",
        "{}",
        first.payload.replace('"client":0', '"client":7'),
        first.payload.replace('"of":20', '"of":21'),
    ):
        report = tallied([*rest, first._replace(payload=payload)])
        assert (report.corrupt, report.missing) == (1, 1)


def test_a_run_whose_id_begins_with_ours_is_left_alone() -> None:
    longer = Run(RUN.id + "-b", 5, 1)
    assert tallied([*rows(), *rows(longer)]).complete


def test_two_rows_for_one_message_are_duplicates() -> None:
    first, *rest = rows()
    report = tallied([first, first._replace(ts="2020-01-01 00:00:00.000000"), *rest])
    assert (report.duplicate_rows, report.messages_stored, report.complete) == (1, 20, True)


def test_what_is_parked_is_not_missing_unless_it_is_stored_it_is_not_counted_twice() -> None:
    first, second, *rest = rows()
    parked = (first.payload.encode(), second.payload.encode(), b"junk", b'{"run":"other"}', second.payload.encode())
    report = tallied([second, *rest], parked=parked)
    assert (report.messages_stored, report.parked, report.missing) == (19, 1, 0)


def test_a_report_carries_a_bounded_number_of_ranges() -> None:
    run = Run(RUN.id, 4 * MAX_RANGES, 1)
    report = tallied([row for row in rows(run) if row.event_id[-1] % 2], run)
    assert report.missing == 2 * MAX_RANGES
    assert len(report.missing_ranges) == MAX_RANGES


@given(st.data())
def test_whatever_the_devices_and_sizes_exactly_what_is_gone_is_missing(data: st.DataObject) -> None:
    clients = data.draw(st.integers(1, 8))
    devices, size = data.draw(st.none() | st.integers(1, 30)), data.draw(st.just(0) | st.integers(1, 700))
    run = Run(RUN.id, data.draw(st.integers(1, 60)), clients, devices, size)
    found = rows(run)
    assert tallied(found, data.draw(st.sampled_from([None, run]))).complete
    gone = data.draw(st.sets(st.integers(0, len(found) - 1), max_size=len(found) - 1))
    report = tallied([row for index, row in enumerate(found) if index not in gone])
    places = [(place["client"], place["seq"]) for row in found for place in [orjson.loads(row.payload)]]
    named = {(one.client, seq) for one in report.missing_ranges for seq in range(one.first, one.last + 1)}
    assert named == {places[index] for index in gone}
    assert (report.messages_stored, report.corrupt) == (len(found) - len(gone), 0)


def test_a_device_or_a_padding_that_is_not_the_messages_own_is_corrupt() -> None:
    first, *rest = rows(Run(RUN.id, 20, 3, 7, 400))
    for changed in (
        first._replace(device_id=f"{RUN.id}-00006"),
        first._replace(payload=first.payload.replace("xx", "x", 1)),
        first._replace(payload=first.payload.replace("xx", "xy", 1)),
        first._replace(payload=first.payload.replace('"devices":7', '"devices":8')),
        first._replace(payload=first.payload.replace('"size":400', '"size":"400"')),
    ):
        report = tallied([*rest, changed])
        assert (report.messages_stored, report.corrupt, report.complete) == (19, 1, False)


@given(st.lists(st.integers(0, 3), max_size=50))
def test_ranges_of_zeros_are_exactly_the_zeros(flags: list[int]) -> None:
    ranges = list(ranges_of_zeros(bytearray(flags)))
    named = [index for first, last in ranges for index in range(first, last + 1)]
    assert named == [index for index, flag in enumerate(flags) if flag == 0]
    assert all(last + 1 < first for (_, last), (first, _) in itertools.pairwise(ranges))


def test_the_report_is_json() -> None:
    data = tallied(rows()[:-1]).as_data()
    assert orjson.loads(orjson.dumps(data)) == data
    assert data["missing_ranges"] == [{"client": 2, "first": 5, "last": 5}]
